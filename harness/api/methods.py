"""`harness.build_method`, `task_for` and `evaluate`: instances of methods, for a training loop of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.checked import checked
from harness.api.named import DataLike, MethodLike, ProtocolLike, load_method, load_protocol, on_data, path_of
from harness.data.dataset import Dataset
from harness.data.open_dataset import load_dataset
from harness.episodes.fixed import with_episodes
from harness.episodes.source import EpisodeSource
from harness.evaluation import evaluate as evaluation
from harness.evaluation.score import metrics
from harness.evaluation.summary import Summary, of_recorded
from harness.method import registry
from harness.method.interface import Method, Task
from harness.runs.resolve import device_named
from harness.util.errors import UserError
from harness.util.one_at_a_time import one_at_a_time

if TYPE_CHECKING:
    import torch

    from harness.protocol.models import AnyProtocol


@checked
def task_for(
    method: MethodLike,
    protocol: ProtocolLike,
    *,
    data: DataLike = "real",
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
) -> Task:
    """What a method is given on a protocol: ways, image shape, kind, and the label delay if it declares the need.

    Data are loaded only where the protocol does not say how many classes there are. Raises UserError where the method
    does not run on protocols of this kind.
    """
    loaded = on_data(load_protocol(protocol), data)
    on: AnyProtocol = loaded.protocol
    classes = on.card.classes.get("train")
    if on.ways is None and classes is None:
        root, store = map(path_of, (data_root, cache))
        classes = _classes(load_dataset(on.dataset, root, store, base=loaded.base))
    return registry.task_for(load_method(method).cls, on, on.card.image_shape, classes)


@checked
@one_at_a_time
def build_method(
    method: MethodLike,
    protocol: ProtocolLike,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    data: DataLike = "real",
    device: str | torch.device = "cpu",
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
) -> Method:
    """An untrained instance of a method for a protocol, its weights drawn from `seed` alone.

    Raises UserError for options that the method has not, and where it does not run on protocols of this kind.
    """
    found = load_method(method)
    task = task_for(found, protocol, data=data, data_root=data_root, cache=cache)
    return registry.build_method(found.cls, task, dict(options or {}), seed, device_named(str(device)))


@checked
@one_at_a_time
def evaluate(
    method: Method,
    protocol: ProtocolLike,
    split: str = "test",
    *,
    episodes: int | None = None,
    data: DataLike = "real",
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
) -> dict[str, Summary]:
    """Scores an instance as it is, on the device that it is on, without a run: metrics in per cent by name,
    each with its 95 % interval as boards have it.

    `episodes` are the first so many of the split, or so many from all over it where they are its images (None: as many
    as the protocol scores in its test). Raises UserError for a split or for data that are not there, for more images
    than there are, and for a method that was built for other episodes.
    """
    loaded = on_data(load_protocol(protocol), data)
    root, store = map(path_of, (data_root, cache))
    dataset = load_dataset(loaded.protocol.dataset, root, store, base=loaded.base)
    dataset = with_episodes(loaded.protocol, dataset, store)
    dataset.table(split)
    classes = _classes(dataset) if loaded.protocol.ways is None else None
    check_task(method, registry.task_for(type(method), loaded.protocol, dataset.card.image_shape, classes))
    count = evaluation.whole_test(loaded.protocol, dataset) if episodes is None else episodes
    if count < 1:
        raise UserError(f"episodes is {episodes}; it must be at least 1")
    first = next((each.device for each in (*method.parameters(), *method.buffers())), "cpu")
    scores = evaluation.evaluate(method, EpisodeSource(dataset, first), loaded.protocol, split, count)
    found = metrics(loaded.protocol, scores)
    return dict(zip(found, of_recorded([*found.values()]), strict=True))


def _classes(dataset: Dataset) -> int:
    return len(dataset.table("train").names)


def check_task(method: Method, asked: Task) -> None:
    """UserError for an instance that was built for episodes of another form than these."""
    differing = [
        f"{name} {getattr(method.task, name)} and not {getattr(asked, name)}"
        for name in ("ways", "image_shape", "label_delay")
        if getattr(method.task, name) != getattr(asked, name)
    ]
    if differing:
        raise UserError(
            f"this {type(method).__name__} was built for other episodes than the protocol's: {', '.join(differing)}; "
            "build one for this protocol (harness.build_method)"
        )
