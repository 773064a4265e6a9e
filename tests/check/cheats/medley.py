"""Many cheats in one worker: each plays the next batch."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from harness.method.interface import Feedback, Method, State, Task
from tests.check.cheats import rememberers, thieves
from tests.check.cheats.base import Cheat


def named(module: object) -> list[str]:
    """The cheats of a module, in its order."""
    return [
        name
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, Cheat) and each.__module__ == module.__name__ and name[0] != "_"  # type: ignore[attr-defined]
    ]


THIEVES, REMEMBERERS = named(thieves), named(rememberers)


class Medley(Method):
    """Takes turns among cheats, batch by batch: all that are named, of one module."""

    def __init__(self, task: Task, names: str, cache: str = "") -> None:
        super().__init__(task)
        if cache:
            rememberers.FromTheCache.cache = Path(cache)
        found = {**vars(thieves), **vars(rememberers)}
        self.players = nn.ModuleList(found[name](task) for name in names.split(","))
        self.turn = -1

    @property
    def player(self) -> Method:
        player = self.players[self.turn % len(self.players)]
        assert isinstance(player, Method)
        return player

    def start(self, episodes: int) -> State:
        self.turn += 1
        return self.player.start(episodes)

    def observe(self, state: State, feedback: Feedback) -> State:
        return self.player.observe(state, feedback)

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return self.player.predict(state, x)
