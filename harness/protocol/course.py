"""What the episodes of a protocol have in common, as far as a file of episodes is compared with it."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """Steps of one phase of an episode, `ways` x `each` of them: of each class `each`, but where classes are drawn
    independently (order 'iid'), of any. In order 'blocks' all steps of a class come together, in 'cyclic' one order of
    the classes repeats itself."""

    phase: str
    ways: int
    each: int
    order: str = "balanced"

    @property
    def steps(self) -> int:
        return self.ways * self.each


class Course(NamedTuple):
    """The phases of an episode, one after another, the label delay of its stream, and whether answers are masks.

    `parts` are () for kinds whose test episodes no file can fix.
    """

    kind: str
    parts: tuple[Part, ...]
    label_delay: int
    masks: bool
