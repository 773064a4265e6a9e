"""Loading a data set by name: from the data root, what was downloaded or decoded before, or the internet."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data import cache as cached
from harness.data import sources
from harness.data.cards import CARDS, Card
from harness.data.dataset import Dataset
from harness.data.registered import registered_dataset
from harness.data.sources import Finder
from harness.util.atomic_files import is_folder
from harness.util.errors import MissingData, UserError, unknown
from harness.util.option_names import option
from harness.util.progress import track

if TYPE_CHECKING:
    from harness.data.user.model import OwnData

LOG = logging.getLogger(__name__)

DATA_VARIABLE, CACHE_VARIABLE = "HARNESS_DATA", "HARNESS_CACHE"


def load_dataset(
    data: str | OwnData,
    data_root: Path | None = None,
    cache: Path | None = None,
    download: bool = True,
    base: Path | None = None,
    rehash: bool = False,
) -> Dataset:
    """A named data set (a name of `harness.data.cards.CARDS`) or a user's own, decoded and memory-mapped.

    One that a program registered (`harness.data.registered`) is the one in memory.

    A real one is looked for under `data_root` (None: the environment variable HARNESS_DATA if set), then
    among what was downloaded or decoded into `cache` before (None: HARNESS_CACHE, or the user's cache
    folder), and is then downloaded if `download`. Stand-ins are generated and need no root. A user's own is
    looked for in `base` (None: the working directory) and then under the root; a hub repository is fetched once.
    Decoded pixels that have not changed since they were last checked are hashed again only with `rehash`.

    Raises UserError for an unknown name; for a real data set that is nowhere (what is missing, where it was
    looked for, how to get it, how to run on the stand-in); for a broken source or cache.
    """
    folder = (cache or default_cache()).expanduser().absolute()
    if not isinstance(data, str):
        return _own(data, base, _root(data_root), folder, download, rehash)
    if (registered := registered_dataset(data)) is not None:
        return registered
    if data not in CARDS:
        raise unknown("data set", data, CARDS)
    card = CARDS[data]
    if card.stand_in:
        from harness.data.synthetic import registry

        return cached.load(card, registry.version(data), registry.source(data), folder, rehash)
    return _real(card, _finder(data), _root(data_root), folder, download, rehash)


def own_sizes(
    data: str | OwnData, data_root: Path | None = None, base: Path | None = None
) -> dict[str, dict[str, int]] | None:
    """How many images each class of each split of a user's own image folder has; None where only reading them tells,
    and of any other data set.

    Raises UserError where the user's own files are nowhere, a folder lacks classes, or a table columns. No image is
    read.
    """
    if isinstance(data, str):
        return None
    from harness.data import user

    return user.find(data, base, _root(data_root))


def default_cache() -> Path:
    """HARNESS_CACHE if it is set, else `episode-harness` in the user's cache folder on this platform."""
    chosen = _from_environment(CACHE_VARIABLE)
    if chosen is not None:
        return chosen
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = _from_environment("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = _from_environment("XDG_CACHE_HOME") or Path.home() / ".cache"
    return base / "episode-harness"


def _root(given: Path | None) -> Path | None:
    root = given or _from_environment(DATA_VARIABLE)
    if root is None:
        return None
    root = root.expanduser().absolute()
    if not is_folder(root):
        raise UserError(f"the data root {root} is not a folder ({option('data-root', 'DIR')} or {DATA_VARIABLE})")
    return root


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _own(data: OwnData, base: Path | None, root: Path | None, cache: Path, may_download: bool, rehash: bool) -> Dataset:
    from harness.data import user

    source = user.source_of(data, base, root)
    folder = cached.folder_of(cache, data.name, user.VERSION, source.digest)
    if data.hub is not None and not may_download and not folder.exists():
        raise MissingData(f"the data set '{data.name}' ({data.hub} on the Hugging Face hub) has not been fetched yet")
    return cached.load(data.card, user.VERSION, source, cache, rehash)


def _finder(name: str) -> Finder:
    if name in ("cifar_fs", "cifar10", "cifar100"):
        from harness.data.real import cifar

        return cifar.finder(CARDS[name])
    if name == "mini_imagenet":
        from harness.data.real import mini_imagenet

        return mini_imagenet.finder(CARDS[name])
    if name == "fss1000":
        from harness.data.real import fss1000

        return fss1000.finder()
    if name in ("omniglot", "omniglot_lake"):
        from harness.data.real import omniglot

        return omniglot.finder(name)
    raise LookupError(f"the card '{name}' has no finder")


def _real(card: Card, finder: Finder, root: Path | None, cache: Path, may_download: bool, rehash: bool) -> Dataset:
    downloads = cache / "downloads"
    for place in (root, downloads):
        source = finder.find(place) if place is not None else None
        if source is not None:
            return cached.load(card, finder.version, source, cache, rehash)
    before = cached.decoded_before(cache, card.name, finder.version)
    if before is not None:
        return cached.opened(card, before, rehash)
    reason = "downloading was not allowed"
    if may_download:
        LOG.info(f"{card.name} is not here; downloading it into {downloads}")
        try:
            with track(f"downloading {card.name}"):
                sources.download(finder, downloads)
        except Exception as error:  # the network and torchvision raise many kinds
            reason = f"downloading it failed: {error}"
        else:
            source = finder.find(downloads)
            if source is not None:
                return cached.load(card, finder.version, source, cache, rehash)
            reason = "the download did not bring it"
    raise _missing(card, finder, root, cache, reason)


def _missing(card: Card, finder: Finder, root: Path | None, cache: Path, reason: str) -> MissingData:
    lines = [f"the data set '{card.name}' ({card.title}) is missing; {reason}.", "Looked for:"]
    for place in (root, cache / "downloads"):
        if place is not None:
            lines += [f"  {place / wanted}" for wanted in finder.places]
    if root is None:
        lines.append(f"  (no data root was given: {option('data-root', 'DIR')} or {DATA_VARIABLE})")
    lines.append(f"  {cache / card.name}-v{finder.version}-* (decoded before)")
    lines.append(f"{finder.advice}.")
    lines.append(f"To try things without it, run on the generated stand-in: {option('data', 'stand-in')}")
    return MissingData("\n".join(lines))
