"""Training reaches every parameter, and a checkpoint holds all that was learned."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.check.compare import first_change
from harness.check.conditions import poisoned
from harness.check.report import Finding
from harness.check.subject import Subject
from harness.check.tasks import numbers
from harness.episodes.source import Episodes
from harness.method.interface import Method
from harness.training.episode_loss import class_loss, episode_loss
from harness.training.interface import check_hooks, training_hooks
from harness.util.errors import first_few


def trainable(subject: Subject) -> Finding:
    """Every parameter with `requires_grad` gets a finite gradient from one training loss, in train mode.

    A method with a class head has the loss of the objective on classes too.
    No gradient at all fails: the parameter is not connected. A gradient of exactly zero is a note, since it can
    be true of one batch (a gate that is shut, a class that was not shown), but fails where it is so of all, and is so
    with labels that fit no image as well.
    A single step without feedback (kind supervised) reaches what is for memory or labels not at all: some
    parameter must learn from it, and no gradient may be infinite.
    """
    method = subject.fresh().train()
    check_hooks(type(method))
    learning = {name: each for name, each in method.named_parameters() if each.requires_grad}
    if not learning:
        return Finding("note", "nothing to train: no parameter requires a gradient")
    # Copies, because a rollout that edits its input is the finding of another check.
    given = subject.given(subject.episodes)
    found = _gradients(method, given, learning)
    if isinstance(found, Finding):
        return found
    gradients = dict(zip(learning, found, strict=True))
    missing = [name for name, each in gradients.items() if each is None]
    if missing and not subject.setting.silent:
        return Finding(
            "failed",
            f"{_named(missing)} no gradient from the training loss: connect it, or set requires_grad_(False) "
            "if it is not meant to learn",
        )
    infinite = [name for name, each in gradients.items() if each is not None and not bool(each.isfinite().all())]
    if infinite:
        return Finding("failed", f"{_named(infinite)} a gradient that is not finite")
    zero = [name for name, each in gradients.items() if each is None or not bool(each.any())]
    if len(zero) == len(gradients):
        # A loss with a margin may be at its end where answers are right; none is with labels that fit no image.
        mixed = _gradients(method, _mixed(subject.given(subject.episodes)), learning)
        if isinstance(mixed, Finding) or not any(each is not None and bool(each.any()) for each in mixed):
            return Finding("failed", "every parameter gets a gradient of exactly zero: nothing can be learned")
        return Finding(
            "note",
            "the gradient is zero on these episodes, as where a margin is met; labels that fit no image give one",
        )
    if subject.setting.silent:
        return Finding(reason=f"{len(gradients) - len(zero)} of {len(learning)} parameter tensors learn from one step")
    if zero:
        return Finding("note", f"{_named(zero)} a gradient of exactly zero on this batch")
    return Finding(reason=f"all {len(learning)} parameter tensors get a finite gradient")


def _gradients(
    method: Method, given: Episodes, learning: dict[str, nn.Parameter]
) -> tuple[Tensor | None, ...] | Finding:
    """The gradient of one training loss for each parameter, or what is wrong with the loss."""
    with poisoned(), torch.enable_grad():
        loss = episode_loss(method, given)
        if not bool(loss.isfinite()):
            return Finding("failed", f"the training loss is {loss.item()}; it must be finite")
        features = training_hooks(method).memoryless_features()
        if features is not None and features.class_head is not None:  # what only the objective on classes trains
            rows = numbers(given).flatten()
            loss = loss + class_loss(features, features.class_head, given.x.flatten(0, 1), rows)
        if not loss.requires_grad:
            return Finding("failed", "the training loss carries no gradient: no parameter can learn from it")
        return torch.autograd.grad(loss, list(learning.values()), allow_unused=True)


def _mixed(episodes: Episodes) -> Episodes:
    """The same images with the targets of each episode in another order."""
    order = torch.randperm(len(episodes.target), generator=torch.Generator().manual_seed(0))
    return replace(episodes, target=episodes.target[order.to(episodes.target.device)])


def save_and_load(subject: Subject) -> Finding:
    """The state_dict, written as safetensors and loaded into an instance of another seed, answers the same bits."""
    from safetensors.torch import load, save

    method = subject.fresh()
    contents = method.state_dict()
    odd = [name for name, each in contents.items() if not isinstance(each, torch.Tensor)]
    if odd:
        return Finding("failed", f"'{odd[0]}' in the state_dict is not a tensor; checkpoints hold tensors only")
    # Clones: tied weights are one tensor under two names, which safetensors refuses.
    raw = save({name: each.detach().clone().contiguous() for name, each in contents.items()})
    loaded = subject.build(1).eval()
    loaded.load_state_dict(load(raw))
    change = first_change(subject.stepped(), subject.stepped(None, loaded))
    if change is None:
        return Finding()
    return subject.failure(
        change,
        "after saving and loading: something the answers depend on is not in the state_dict (a plain tensor attribute, "
        "or a buffer with persistent=False)",
        verb="differs",
    )


def _named(names: list[str]) -> str:
    shown = first_few([f"'{name}'" for name in names], 5)
    return f"parameter{'s' if len(names) > 1 else ''} {shown} {'get' if len(names) > 1 else 'gets'}"
