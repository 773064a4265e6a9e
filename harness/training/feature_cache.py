"""Where features are stored that many runs share, in files `<cache>/pretrained/<key>.safetensors`.

They are nets with a layer over them (`cached_stage`), or what such a net makes of every image of a split
(`frozen_features`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.util.errors import HarnessError, UserError
from harness.util.tensor_files import content_of, load_tensors, save_tensors


def _silent(_: str) -> None:
    return


@dataclass(frozen=True)
class FeatureCache:
    """The folder of features made before; `say` is called with messages about them."""

    folder: Path
    say: Callable[[str], None] = _silent

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def find(
        self, key: str, fits: Callable[[dict[str, Tensor]], bool], said: Sequence[str] = ()
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors stored under a key, if they fit, and what the header says under some names; None without.

        What is damaged is set aside under another name, which is said.
        """
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            tensors, header = load_tensors(path)
            if not fits(tensors) or header["content"] != content_of(tensors):
                raise UserError(f"{path} is damaged: its tensors are not those that were written")
            return tensors, {name: header[name] for name in said}
        except (UserError, KeyError) as error:
            aside = next(p for n in range(1, 10_000) if not (p := path.with_name(f"{path.name}.damaged-{n}")).exists())
            os.replace(path, aside)
            self.say(f"features: {error}; set aside as {aside.name}, and made again")
            return None

    def keep(self, key: str, tensors: dict[str, Tensor], header: dict[str, Any]) -> bool:
        """Writes an entry; where that is not possible it says so and returns False, and the training goes on."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_tensors(self.path(key), tensors, {**header, "content": content_of(tensors)})
        except (HarnessError, OSError) as error:
            self.say(f"features: not kept in the cache: {error}")
            return False
        return True

    def claim(self, key: str, held: ExitStack, stop: Callable[[], bool]) -> None:
        """Waits until nobody else trains what belongs under a key, and keeps others waiting until `held` is closed.

        Returns at once where the cache cannot be written, and soon after `stop` says so.
        """
        from filelock import FileLock, Timeout

        waiting = False
        while True:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(FileLock(self.folder / f".{key}.lock", timeout=1 if waiting else 0))
                return
            except Timeout:
                if stop():
                    return
                if not waiting:
                    self.say(f"features: another run is training them ({key[:16]}); waiting for it")
                    waiting = True
            except OSError:
                return
