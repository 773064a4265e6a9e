"""Where the runs of a sweep find data and leave what they make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

RUNS = Path("runs")
"""Where run folders go if nothing else is said, as for `harness run`."""


@dataclass(frozen=True)
class Places:
    """Folders, None as for `harness run`.

    `default_boards` are the folders of boards, of real and of generated data, where `boards` names none.
    """

    default_boards: tuple[Path, Path]
    out: Path | None = None
    data_root: Path | None = None
    cache: Path | None = None
    boards: Path | None = None

    @property
    def words(self) -> list[str]:
        """The options of `harness run` that say so."""
        places = {"out": self.out, "data-root": self.data_root, "cache": self.cache, "boards": self.boards}
        return [word for name, value in places.items() if value is not None for word in (f"--{name}", str(value))]

    @property
    def runs(self) -> Path:
        """Where run folders go."""
        return self.out or RUNS

    def boards_of(self, stand_in: bool) -> Path:
        """Where the boards of real or of generated data are."""
        return self.boards or self.default_boards[stand_in]
