"""Episodes for a training loop of one's own: a PyTorch data set of batches, sharded over workers and ranks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from harness.data.dataset import Dataset
from harness.episodes.source import AUGMENTATIONS, Episodes, EpisodeSource
from harness.protocol.models import AnyProtocol
from harness.util.errors import UserError, unknown

if TYPE_CHECKING:
    _Base = IterableDataset[Episodes]
else:
    _Base = IterableDataset


class EpisodeStream(_Base):
    """The episodes of one split under one seed, in batches of B: `Episodes` with x [T, B, C, H, W].

    Episode i is a pure function of (protocol digest, split, seed, i), whoever asks for it: iterating gives episodes
    `first`, `first` + 1, ... in order, `stream[i]`, `stream[[3, 1, 4]]` and `stream[0:100]` give any by number (a batch
    of one, of these, of the range).

    Given to `DataLoader(stream, batch_size=None, num_workers=W)`, every worker makes a part of the batches; under
    `torch.distributed` so does every rank. Batch k goes to shard k modulo the number of shards, so that together they
    see each batch once; where the batches of a bounded stream do not divide evenly, some shards get one fewer.
    """

    def __init__(
        self,
        protocol: AnyProtocol,
        dataset: Dataset,
        split: str = "train",
        batch: int = 16,
        *,
        seed: int = 0,
        first: int = 0,
        episodes: int | None = None,
        augment: Sequence[str] = (),
        device: torch.device | str = "cpu",
        rank: int | None = None,
        ranks: int | None = None,
    ) -> None:
        """`episodes` bounds the stream (None: it never ends); `augment` may name 'flip', 'crop' and 'warp'; `rank` of
        `ranks` are those of `torch.distributed` where it is initialised, else 0 of 1.

        Raises UserError for a split that the data set has not, and for numbers that make no sense.
        """
        super().__init__()
        dataset.table(split)
        if batch < 1 or first < 0 or (episodes is not None and episodes < 1):
            raise UserError(f"batch {batch}, first {first}, episodes {episodes}: there must be something to give")
        for each in augment:
            if each not in AUGMENTATIONS:
                raise unknown("augmentation", each, AUGMENTATIONS)
        self.protocol, self.split, self.batch, self.seed = protocol, split, batch, seed
        self.first, self.episodes, self.augment = first, episodes, tuple(augment)
        self.rank, self.ranks = _ranks(rank, ranks)
        self.source = EpisodeSource(dataset, device)

    def __iter__(self) -> Iterator[Episodes]:
        worker = get_worker_info()
        workers = 1 if worker is None else worker.num_workers
        if worker is not None and self.source.device.type != "cpu":
            raise UserError("workers of a DataLoader make episodes on the CPU; leave `device` out, or num_workers at 0")
        shard = self.rank * workers + (0 if worker is None else worker.id)
        for number in itertools.islice(self._starts(), shard, None, self.ranks * workers):
            last = number + self.batch
            if self.episodes is not None:
                last = min(last, self.first + self.episodes)
            yield self._made(np.arange(number, last))

    def __getitem__(self, numbers: int | slice | Sequence[int] | np.ndarray) -> Episodes:
        """The numbered episodes as one batch; numbers count from 0 whatever `first` is.

        Raises IndexError for a number below 0 or beyond a bounded stream.
        """
        end = None if self.episodes is None else self.first + self.episodes
        if isinstance(numbers, slice):
            if numbers.stop is None and end is None:
                raise IndexError("the stream never ends: give the slice an end")
            stop = numbers.stop if numbers.stop is not None else end
            wanted = np.arange(numbers.start or 0, stop, numbers.step or 1)
        else:
            wanted = np.atleast_1d(np.asarray(numbers, np.int64))
        if not len(wanted) or wanted.min() < 0 or (end is not None and wanted.max() >= end):
            raise IndexError(f"episodes are numbered from 0{'' if end is None else f' to {end - 1}'}, found {numbers}")
        return self._made(wanted)

    def _starts(self) -> Iterator[int]:
        """The number of the first episode of each batch."""
        if self.episodes is None:
            return itertools.count(self.first, self.batch)
        return iter(range(self.first, self.first + self.episodes, self.batch))

    def _made(self, numbers: np.ndarray) -> Episodes:
        return self.source.episodes(self.protocol, self.split, self.seed, numbers, self.augment)


def _ranks(rank: int | None, ranks: int | None) -> tuple[int, int]:
    if rank is None and ranks is None:
        import torch.distributed

        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return 0, 1
    if rank is None or ranks is None or not 0 <= rank < ranks:
        raise UserError(f"rank {rank} of {ranks}: give both, rank from 0 to one less than ranks")
    return rank, ranks
