"""What a method may keep of what it was asked: only its state; and what null feedback may be taken for: nothing."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.check.compare import first_change
from harness.check.conditions import jitter
from harness.check.isolation import contents, frozen
from harness.check.report import Finding
from harness.check.subject import Subject
from harness.check.walk import life_of, walked
from harness.episodes.plan import NULL
from harness.method.interface import Method

_OURS = ("harness", "torch", "builtins")

_SEEDS = 6  # of weights, at most: most methods are told apart by the first
_INDIFFERENT = 2  # seeds after which a method to which no class matters so early is believed


def nothing_remembered(subject: Subject) -> Finding:
    """Two instances answer different episodes of the same shape: afterwards their modules hold the same.

    What is kept of shapes alone (a mask, a table of positions) is the same for both; what differs was taken from inputs
    or labels, and could answer later episodes though nothing here showed it. Looked at are the attributes of the
    modules, of their classes, and the lists, dicts, sets and tensors of the file that defines the method; of numbers on
    classes and in files only those on the instance, since counting calls is no memory of what was asked.
    """
    held = []
    for episodes in (subject.episodes, subject.others):
        method = subject.fresh()
        subject.stepped(episodes, method)
        held.append({**contents(method), **dict(_globals(method))})
    one, other = held
    for name in one.keys() | other.keys():
        shared = not name.startswith(("attribute", "parameter", "buffer"))
        plain = all(isinstance(each.get(name), str | int | float | bool | None) for each in held)
        if one.get(name) != other.get(name) and not (shared and plain):
            return Finding(
                "failed",
                f"{name} holds something of what was answered: it differs between two instances that answered "
                "different episodes; all that is learned within an episode belongs into the state",
            )
    return Finding()


def null_is_no_class(subject: Subject) -> Finding:
    """What is revealed before the first label is replaced by each class in turn.

    If some class gives the very answers that null gives, and another does not, null is taken for it: -1 is read as the
    last class by an index or a modulo. All of `_SEEDS` seeds of weights must agree, since a small net that is not
    trained may happen to answer alike; where every class gives the answers of null, `_INDIFFERENT` of them are enough.
    """
    life, setting = life_of(subject.episodes), subject.setting
    first = life.feedback[0]
    if setting.masks:
        replaced = [torch.full_like(first, value) for value in (0.0, 1.0)]
        names = ["an empty mask", "a full mask"]
    else:
        replaced = [torch.full_like(first, value) for value in range(setting.ways)]
        names = [f"class {value}" for value in range(setting.ways)]
    if bool((first != NULL).any()):
        return Finding("skipped", "a label is revealed before the first step")
    same = set(range(len(names)))
    for seed in range(_SEEDS):
        if not same:
            break
        if seed == 0:
            methods: Iterator[Method] = (subject.fresh() for _ in range(len(names) + 1))
        else:
            methods = (_built(subject, seed) for _ in range(len(names) + 1))
        usual = walked(next(methods), life)[0]
        found = set()
        for number, (revealed, method) in enumerate(zip(replaced, methods, strict=False)):
            given = torch.cat([revealed[None], life.feedback[1:]])
            if first_change(usual, walked(method, replace(life, feedback=given))[0]) is None:
                found.add(number)
        same &= found
        if seed + 1 == _INDIFFERENT and len(same) == len(names):
            break
    # An empty mask marks nothing: a learner of masks may well do with it what it does with no mask.
    if same and len(same) < len(names) and not (setting.masks and 0 in same):
        which = names[min(same)]
        return Finding(
            "failed",
            f"null feedback before the first label is taken for {which}: with that in its place every answer is the "
            "same, and with another class it is not",
        )
    return Finding()


def _built(subject: Subject, seed: int) -> Method:
    method = subject.build(seed).eval()
    jitter(method)
    return method


def _globals(method: Method) -> Iterator[tuple[str, Any]]:
    """What the files hold that define the method's class and those it derives from, but for the harness's."""
    for cls in type(method).__mro__:
        module = sys.modules.get(cls.__module__)
        if module is None or cls.__module__.partition(".")[0] in _OURS:
            continue
        for name, value in list(vars(module).items()):
            if isinstance(value, Tensor | dict | list | set | deque) and not name.startswith("__"):
                yield f"global '{name}' of {cls.__module__}", frozen(value)
