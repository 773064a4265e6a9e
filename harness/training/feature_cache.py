"""Where shared features are stored: `<cache>/pretrained/<key>.safetensors`, the features and the layer over them."""

from __future__ import annotations

import os
from collections.abc import Callable
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
    """The folder of features trained before; `say` is called with messages about them."""

    folder: Path
    say: Callable[[str], None] = _silent

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def find(self, key: str, like: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the header stored under a key, alike in names and shapes to `like`; None without.

        What is damaged is set aside under another name, which is said.
        """
        path = self.path(key)
        if not path.is_file():
            return None
        try:
            tensors, header = load_tensors(path)
            fits = {name: each.shape for name, each in tensors.items()} == {n: t.shape for n, t in like.items()}
            if not fits or header["content"] != content_of(tensors):
                raise UserError(f"{path} is damaged: its tensors are not those that were written")
            return tensors, {name: header[name] for name in ("episodes", "updates", "seconds")}
        except (UserError, KeyError) as error:
            aside = next(p for n in range(1, 10_000) if not (p := path.with_name(f"{path.name}.damaged-{n}")).exists())
            os.replace(path, aside)
            self.say(f"features: {error}; set aside as {aside.name}, and trained again")
            return None

    def keep(self, key: str, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
        """Writes an entry; where that is not possible it says so, and the training goes on."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_tensors(self.path(key), tensors, {**header, "content": content_of(tensors)})
            self.say(f"features: kept in the cache ({key[:16]})")
        except (HarnessError, OSError) as error:
            self.say(f"features: not kept in the cache: {error}")

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
