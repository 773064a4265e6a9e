"""The engines by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.util.errors import UserError
from harness.util.option_names import option

if TYPE_CHECKING:
    from harness.sweep.engine import Engine

ENGINES = ("local", "ray", "slurm")


@dataclass(frozen=True)
class Choice:
    """Which engine, and what is said to it: `jobs` cores at most, Ray's `address`, `slurm` options of sbatch."""

    name: str = "local"
    jobs: int | None = None
    address: str | None = None
    slurm: Sequence[str] = ()

    def check(self) -> None:
        """Raises UserError for what is said to another engine than the one that is chosen."""
        if self.name not in ENGINES:
            raise UserError(f"there is no engine '{self.name}'; there are: {', '.join(ENGINES)}")
        if self.address is not None and self.name != "ray":
            raise UserError(f"{option('address')} is that of a Ray cluster; add {option('engine', 'ray')}")
        if self.slurm and self.name != "slurm":
            raise UserError(f"{option('slurm')} gives options of Slurm's sbatch; add {option('engine', 'slurm')}")

    def start(self, folder: Path) -> Engine:
        """The engine, for the sweep in a folder. Raises HarnessError if it is not to be had."""
        self.check()
        if self.name == "ray":
            from harness.sweep.publishing import Publishing
            from harness.sweep.ray_engine import start_ray

            return Publishing(start_ray(self.address, self.jobs, folder))
        if self.name == "slurm":
            from harness.sweep.publishing import Publishing
            from harness.sweep.slurm_engine import slurm_options, start_slurm

            return Publishing(start_slurm(slurm_options(self.slurm), self.jobs, folder))
        from harness.sweep.local import Local, this_machine

        return Local(this_machine(self.jobs))
