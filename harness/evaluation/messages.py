"""What the scorer and the worker of isolated scoring say to each other: JSON over a socket, arrays in shared memory.

A message is its length and JSON; its arrays lie one after another in a file in memory that both have mapped. Nothing
is ever unpickled: whatever a worker sends is a shape, the name of a type of number, and bytes. NumPy is imported where
arrays are: it may start threads, and a process can confine itself only while it has one.
"""

from __future__ import annotations

import fcntl
import json
import math
import mmap
import os
import socket
import struct
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_LENGTH = struct.Struct("<I")
_LONGEST = 1 << 20
_ALIGNED = 64
_ADD_SEALS, _SEAL_SHRINK = 1033, 2


class Closed(Exception):
    """The other side is gone."""


class Channel:
    """One end of the conversation. `memory` is the file descriptor of the shared file."""

    def __init__(self, connection: socket.socket, memory: int) -> None:
        self.connection = connection
        self.memory = memory
        self._mapped: mmap.mmap | None = None

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message; raises Closed if nobody is there to read it."""
        text = json.dumps(message).encode()
        try:
            self.connection.sendall(_LENGTH.pack(len(text)) + text)
        except (BrokenPipeError, ConnectionResetError):
            raise Closed from None

    def receive(self) -> dict[str, Any]:
        """The next message; raises Closed at the end, TimeoutError, and ValueError for what is no message."""
        size = _LENGTH.unpack(self._exactly(_LENGTH.size))[0]
        if size > _LONGEST:
            raise ValueError("a message of more than a megabyte")
        found = json.loads(self._exactly(size))
        if not isinstance(found, dict):
            raise ValueError("a message that is no JSON object")
        return found

    def room(self, size: int) -> None:
        """Makes the shared file at least so many bytes long (rounded up to a megabyte)."""
        size = -(-max(size, 1) // (1 << 20)) << 20
        if os.fstat(self.memory).st_size < size:
            os.ftruncate(self.memory, size)

    def put(self, arrays: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        """Writes arrays into the shared file, from its beginning; where and what they are, for a message."""
        places = []
        end = 0
        for each in arrays:
            places.append({"at": end, "dtype": each.dtype.str, "shape": list(each.shape)})
            end += -(-each.nbytes // _ALIGNED) * _ALIGNED
        view = self._view(end)
        for each, place in zip(arrays, places, strict=True):
            self._array(view, place)[...] = each
        return places

    def get(self, places: Sequence[dict[str, Any]]) -> list[np.ndarray]:
        """Copies of the arrays that a message speaks of."""
        import numpy as np

        sizes = [math.prod(place["shape"]) * np.dtype(place["dtype"]).itemsize for place in places]
        view = self._view(max((place["at"] + size for place, size in zip(places, sizes, strict=True)), default=0))
        return [self._array(view, place).copy() for place in places]

    def close(self) -> None:
        self.connection.close()
        if self._mapped is not None:
            self._mapped.close()
        os.close(self.memory)

    def _view(self, size: int) -> mmap.mmap:
        if self._mapped is None or len(self._mapped) < size:
            self._mapped = mmap.mmap(self.memory, os.fstat(self.memory).st_size)
        return self._mapped

    @staticmethod
    def _array(view: mmap.mmap, place: dict[str, Any]) -> np.ndarray:
        import numpy as np

        count = math.prod(place["shape"])
        return np.frombuffer(view, place["dtype"], count, place["at"]).reshape(place["shape"])

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            try:
                part = self.connection.recv(min(size, 1 << 16))
            except ConnectionResetError:
                part = b""
            if not part:
                raise Closed
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def shared_memory() -> int:
    """The file descriptor of an empty file without a name, in memory where the system has such files.

    There it cannot be made shorter again, which would kill whoever reads it.
    """
    if hasattr(os, "memfd_create"):
        found = os.memfd_create("episodes", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(found, _ADD_SEALS, _SEAL_SHRINK)
        return found
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
