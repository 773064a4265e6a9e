"""`harness.episodes` and `harness.dataset`: data sets from arrays, and episodes for a training loop of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api.checked import checked
from harness.api.named import DataLike, ProtocolLike, load_protocol, on_data, path_of
from harness.data.arrays import dataset_of as dataset
from harness.data.open_dataset import load_dataset
from harness.data.registered import register_dataset
from harness.episodes.fixed import with_episodes
from harness.episodes.stream import EpisodeStream
from harness.evaluation.evaluate import episodes_there, whole_test
from harness.protocol.feasibility import check_possible
from harness.util.errors import UserError
from harness.util.quantities import counted

if TYPE_CHECKING:
    import torch

__all__ = ["dataset", "episodes", "register_dataset"]


@checked
def episodes(
    protocol: ProtocolLike,
    split: str = "train",
    batch: int = 16,
    data: DataLike = "real",
    *,
    seed: int = 0,
    first: int = 0,
    episodes: int | None = None,
    augment: Sequence[str] = (),
    device: torch.device | str = "cpu",
    rank: int | None = None,
    ranks: int | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
) -> EpisodeStream:
    """The episodes of a split of a protocol, in batches: an `IterableDataset` for a training loop of one's own.

    Args:
        protocol: a name, a file, a mapping or a model.
        split: train, validation or test.
        batch: episodes a batch.
        data: 'real' (the protocol's own), 'stand-in', the name of a data set, a mapping, or a data set in memory.
        seed: with another seed episode i is another one. Boards are scored on seed 0 of the test split, which is never
            to be trained on.
        first: the number of the episode to begin with.
        episodes: how many there are; None: without end, but of the test split up to the last one that the protocol
            scores, and where episodes are the images of a split (kind supervised, not for training) up to its last.
        augment: for training: 'flip' and 'crop' of each image, 'warp' of whole episodes (task augmentation).
        device: where the tensors are made.
        rank: this process's number, where `torch.distributed` does not say.
        ranks: how many processes there are.
        data_root: where the real data sets are, by default the environment variable HARNESS_DATA.
        cache: where decoded data are kept, by default HARNESS_CACHE or the user's cache folder.

    Raises:
        UserError: for what is not there or cannot be.
    """
    loaded = on_data(load_protocol(protocol), data)
    root, store = map(path_of, (data_root, cache))
    own = load_dataset(loaded.protocol.dataset, root, store, base=loaded.base)
    found = with_episodes(loaded.protocol, own, store)
    check_possible(loaded.protocol, found)
    found.table(split)  # refuses what is no split of it
    there = episodes_there(loaded.protocol, found, split)
    scored = whole_test(loaded.protocol, found) if split == "test" else there
    if there is not None and first + (episodes or 1) > there:
        raise UserError(
            f"the {split} split has {counted(there, 'episode')}, from 0: there are not {episodes or 1} from episode "
            f"{first} on"
        )
    if episodes is None and scored is not None:
        if first >= scored:
            raise UserError(
                f"{scored} episodes are scored, from 0, and first is {first}; say how many episodes you want"
            )
        episodes = scored - first
    return EpisodeStream(
        loaded.protocol,
        found,
        split,
        batch,
        seed=seed,
        first=first,
        episodes=episodes,
        augment=augment,
        device=device,
        rank=rank,
        ranks=ranks,
    )
