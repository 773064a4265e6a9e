"""The number of torch's threads, which results depend on in their last bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_threads(number: int | None = None) -> Iterator[None]:
    """In the block torch has so many threads (None: as many as there are); after it as many as before, whatever the
    block has set."""
    import torch

    before = torch.get_num_threads()
    if number:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
