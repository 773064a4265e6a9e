"""What a launcher of several processes (torchrun) says of them, in the environment of each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from harness.util.errors import UserError


@dataclass(frozen=True)
class Launch:
    """Process `rank` of `world` in all, and `local_rank` of the `local_world` on its machine; counted from 0."""

    rank: int
    world: int
    local_rank: int
    local_world: int

    @property
    def program(self) -> str:
        """The words before the arguments of a command that is started so, as 'torchrun ... -m harness'."""
        machines = self.world // self.local_world
        nodes = f"--nnodes {machines} " if machines > 1 else ""
        return f"torchrun {nodes}--nproc-per-node {self.local_world} -m harness"


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """The launch that this process is part of; None for a process of its own (also one that was launched alone).

    Raises UserError where the environment says so by halves, or cannot be read.
    """
    world = _number(environment, "WORLD_SIZE", 1)
    if world == 1:
        return None
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not environment.get(name)]
    if missing:
        raise UserError(
            f"WORLD_SIZE is {world}, but {', '.join(missing)} not set; start by torchrun, which sets all of them, "
            "or unset WORLD_SIZE for one process"
        )
    rank = _number(environment, "RANK", 0)
    local_world = _number(environment, "LOCAL_WORLD_SIZE", world)
    return Launch(rank, world, _number(environment, "LOCAL_RANK", rank), max(1, local_world))


def one_seed(launch: Launch, seeds: int) -> None:
    """Raises UserError where the processes of a launch are to train so many seeds, and not one."""
    if seeds > 1:
        raise UserError(f"{launch.world} processes train one seed together; name one, or start a run each")


def refuse_sweep() -> None:
    """Raises UserError in a process of a launch, for a sweep."""
    if launched() is not None:
        raise UserError("a sweep starts its runs itself, each as one process: start it without torchrun")


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit():
        raise UserError(f"{name} in the environment is '{text}', not a number of processes")
    return int(text)


def another_says_it(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is not the first process of its launch, so that what all of them have to say was said."""
    return environment.get("RANK", "0") != "0" and environment.get("WORLD_SIZE", "1") != "1"
