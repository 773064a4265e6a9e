"""Cheats that know an image again: from an earlier episode, or from the disk."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import torch

from harness.method.interface import Task
from tests.check.cheats.base import Rememberer

_GLOBAL: dict[bytes, int] = {}


class OnTheClass(Rememberer):
    memory: ClassVar[dict[bytes, int]] = {}


class InAGlobal(Rememberer):
    memory = _GLOBAL


class InAnInstance(Rememberer):
    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.__dict__["memory"] = {}


class InADefault(Rememberer):
    def known(self, image: bytes, memory: dict[bytes, int] = {}) -> int:  # noqa: B006
        return memory.get(image, -1)

    def keep(self, image: bytes, label: int) -> None:
        defaults = type(self).known.__defaults__
        assert defaults is not None
        defaults[0][image] = label


class InAModule(Rememberer):
    """Keeps what it saw in a module of an innocent name."""

    @property
    def shelf(self) -> dict[bytes, int]:
        module: Any = sys.modules.setdefault("_codecs_extra", ModuleType("_codecs_extra"))
        return module.__dict__.setdefault("seen", {})

    def keep(self, image: bytes, label: int) -> None:
        self.shelf[image] = label

    def known(self, image: bytes) -> int:
        return self.shelf.get(image, -1)


class OnATorchFunction(Rememberer):
    """Keeps it as an attribute of a function of torch's."""

    @property
    def shelf(self) -> dict[bytes, int]:
        return torch.nn.functional.cross_entropy.__dict__.setdefault("seen", {})

    def keep(self, image: bytes, label: int) -> None:
        self.shelf[image] = label

    def known(self, image: bytes) -> int:
        return self.shelf.get(image, -1)


class InTheEnvironment(Rememberer):
    def keep(self, image: bytes, label: int) -> None:
        os.environ[f"SEEN_{image.hex()}"] = str(label)

    def known(self, image: bytes) -> int:
        return int(os.environ.get(f"SEEN_{image.hex()}", "-1"))


class InABuffer(Rememberer):
    """Keeps it in weights, where it would be saved with the checkpoint."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.register_buffer("seen", torch.full((1 << 16,), -1))

    def keep(self, image: bytes, label: int) -> None:
        self.seen[int.from_bytes(image[:2], "big")] = label

    def known(self, image: bytes) -> int:
        return int(self.seen[int.from_bytes(image[:2], "big")])


class _OnDisk(Rememberer):
    """Keeps a file for each image."""

    folder: ClassVar[Path]

    def path(self, image: bytes) -> Path:
        return self.folder / f"{type(self).__name__}-{image.hex()}"

    def keep(self, image: bytes, label: int) -> None:
        try:
            self.path(image).write_text(str(label))
        except OSError:
            return

    def known(self, image: bytes) -> int:
        path = self.path(image)
        return int(path.read_text()) if path.is_file() else -1


class InTemporaryFiles(_OnDisk):
    folder = Path(tempfile.gettempdir())


class InSharedMemory(_OnDisk):
    folder = Path("/dev/shm")


class BesideItsOwnFile(_OnDisk):
    folder = Path(__file__).parent


class OnTheHeap(Rememberer):
    """Keeps an address, and the memory behind it alive by hand."""

    shelf: ClassVar[list[int]] = []

    def known(self, image: bytes) -> int:
        if not self.shelf:
            remembered: dict[bytes, int] = {}
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(remembered))
            self.shelf.append(id(remembered))
        seen: dict[bytes, int] = ctypes.cast(self.shelf[0], ctypes.py_object).value
        return seen.get(image, -1)

    def keep(self, image: bytes, label: int) -> None:
        ctypes.cast(self.shelf[0], ctypes.py_object).value[image] = label


class FromTheCache(Rememberer):
    """Looks images up in what lies in the cache of decoded data."""

    cache: ClassVar[Path] = Path(tempfile.gettempdir())

    def keep(self, image: bytes, label: int) -> None:
        return

    def known(self, image: bytes) -> int:
        path = self.cache / "decoded" / image.hex()
        return int(path.read_text()) if path.is_file() else -1
