"""The learners of masks without parameters, against plain Python that lives one episode at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from harness import testing
from harness.episodes.source import Episodes
from harness.evaluation.evaluate import evaluate
from harness.evaluation.rollout import feedback_of, step_through
from harness.evaluation.score import metrics
from harness.method.interface import Feedback, Method, leaves, state_bytes
from harness.method.registry import load_method, task_for
from harness.protocol.models import PROTOCOL, AnyProtocol
from harness.testing.tiny import tiny_source
from harness.util.errors import UserError
from tests.helpers.built_in import UNTRAINED_MASKS

Mask = list[list[int]]
SHOWINGS = 4


def a_protocol(distractor: bool = True) -> AnyProtocol:
    return PROTOCOL.validate_python(
        {
            "kind": "segmentation_distractors",
            "title": "tiny",
            "dataset": "scenes",
            "episode": {"presentations": SHOWINGS, "distractor": distractor},
            "scoring": {"shots": [1, 3], "test_episodes": 6},
        }
    )


def built(name: str, episodes: Episodes) -> Method:
    cls = load_method(name).cls
    channels, height, width = episodes.x.shape[2:]
    return cls(task_for(cls, a_protocol(), (channels, height, width)))


# The oracles: the mask answered after some masks were revealed, oldest first; None where nothing was.


def all_foreground(size: int, revealed: list[Mask]) -> Mask:
    return [[1] * size for _ in range(size)]


def all_background(size: int, revealed: list[Mask]) -> Mask:
    return [[0] * size for _ in range(size)]


def copy_last_mask(size: int, revealed: list[Mask]) -> Mask:
    return revealed[-1] if revealed else all_background(size, revealed)


def mean_mask(size: int, revealed: list[Mask]) -> Mask:
    objects = [mask for mask in revealed if any(map(any, mask))]
    return [[int(2 * sum(mask[r][c] for mask in objects) > len(objects)) for c in range(size)] for r in range(size)]


ORACLES: dict[str, Callable[[int, list[Mask]], Mask]] = {
    "all_foreground": all_foreground,
    "all_background": all_background,
    "copy_last_mask": copy_last_mask,
    "mean_mask": mean_mask,
}


def test_every_method_without_parameters_has_an_oracle() -> None:
    assert sorted(ORACLES) == sorted(UNTRAINED_MASKS)


@pytest.mark.parametrize("distractor", [False, True])
@pytest.mark.parametrize("name", ORACLES)
def test_masks_are_those_of_plain_python(name: str, distractor: bool) -> None:
    episodes = testing.tiny_episodes(a_protocol(distractor), numbers=range(3))
    logits, _ = step_through(built(name, episodes), episodes)
    targets = episodes.target[:, :, 0].int().tolist()
    for b in range(3):
        for t in range(len(logits)):
            revealed = [targets[s][b] for s in range(t)]  # at delay 1 the masks of all earlier steps
            expected = ORACLES[name](logits.shape[-1], revealed)
            assert (logits[t, b, 0] > 0).int().tolist() == expected, f"episode {b}, step {t}"
    assert logits.ne(0).all() or name == "mean_mask"  # nothing is left undecided


@pytest.mark.parametrize("name", ORACLES)
def test_states_keep_their_size_and_are_never_edited(name: str) -> None:
    episodes = testing.tiny_episodes(a_protocol(), numbers=range(3))
    method, feedback = built(name, episodes), feedback_of(episodes).target
    state = method.start(3)
    bytes_at_start = state_bytes(state)
    for x, target in zip(episodes.x, feedback, strict=True):
        before = copy.deepcopy((state, x, target))
        observed = method.observe(state, Feedback(target))
        copies = copy.deepcopy(observed)
        logits, after = method.predict(observed, x)
        logits.add_(1.0)
        same = pytree.tree_map(torch.equal, (before, copies), ((state, x, target), observed))
        assert all(pytree.tree_leaves(same))
        assert all(len(leaf) == 3 for leaf in leaves(after))
        assert state_bytes(after) == bytes_at_start
        state = after
    assert not list(method.parameters())
    assert not method.state_dict()
    assert all(leaf.device.type == "meta" for leaf in leaves(method.to("meta").start(3)))


def test_a_null_mask_says_nothing() -> None:
    episodes = testing.tiny_episodes(a_protocol(), numbers=range(3))
    null = Feedback(torch.full_like(episodes.target[0], -1))
    for name in ORACLES:
        method = built(name, episodes)
        for state in (method.start(3), method.observe(method.start(3), Feedback(episodes.objects[0]))):
            labelled, _ = method.predict(method.observe(state, null), episodes.x[0])
            assert torch.equal(labelled, method.predict(state, episodes.x[0])[0])


def test_marking_everything_and_nothing_earn_what_is_counted_by_hand() -> None:
    protocol = a_protocol()
    source = tiny_source(protocol)
    episodes = source.episodes(protocol, "test", 0, range(6))
    found = {}
    for name in ("all_foreground", "all_background"):
        found[name] = metrics(protocol, evaluate(built(name, episodes), source, protocol, "test", 6))
    covered = episodes.objects.mean((2, 3, 4)).T.double().numpy()
    shown = [row[kinds == 0] for row, kinds in zip(covered, episodes.plan.target, strict=True)]
    share = 100 * np.mean([[row[1], row[3]] for row in shown])
    everything, nothing = found["all_foreground"], found["all_background"]
    assert everything["iou"][0] == pytest.approx(share)
    assert everything["masking"][:2] == (0, 0)
    assert everything["joint"][0] == pytest.approx(share / 2)
    assert nothing["iou"][:2] == (0, 0)
    assert nothing["masking"][:2] == (100, 0)
    assert nothing["joint"][:2] == (50, 0)


@pytest.mark.parametrize("name", ORACLES)
def test_learners_of_masks_are_refused_where_classes_are_asked_for(name: str) -> None:
    online = PROTOCOL.validate_python(
        {
            "kind": "online_few_shot",
            "title": "tiny",
            "dataset": "objects",
            "episode": {"ways": 2, "presentations": 2},
            "scoring": {"shots": [1]},
        }
    )
    with pytest.raises(UserError, match="does not run on protocols of kind online_few_shot; it runs on segmentation"):
        task_for(load_method(name).cls, online, (3, 32, 32))
    with pytest.raises(UserError, match="Chance does not run on protocols of kind segmentation_distractors"):
        task_for(load_method("chance").cls, a_protocol(), (3, 32, 32))
