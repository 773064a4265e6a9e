"""`harness.check`: whether a method keeps the rules of the interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.api.checked import checked
from harness.api.named import MethodLike, ProtocolLike, load_method, load_protocol, path_of
from harness.check import check_method
from harness.check.pictures import pictures_of
from harness.check.report import Report
from harness.data.open_dataset import load_dataset
from harness.util.errors import UserError
from harness.util.one_at_a_time import one_at_a_time
from harness.util.option_names import option


@checked
@one_at_a_time
def check(
    method: MethodLike,
    protocol: ProtocolLike | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    kinds: Sequence[str] | None = None,
    delays: Sequence[int] | None = None,
    data_root: str | Path | None = None,
    cache: str | Path | None = None,
) -> Report:
    """Runs every conformance check on a method, on small random tasks: `harness check`.

    It needs no data: where tasks must look like those of scoring, they show images of a stand-in.

    Args:
        method: a name, 'file.py:Class', a class, or an instance (its class; it is built anew, with `options`).
        protocol: check on this protocol's kind only, with its ways, image shape and label delay.
        options: options of the method.
        seed: of the random weights.
        kinds: these kinds only, of those that the method declares.
        delays: label delays of streams, in place of 1, 3 and the protocol's own.
        data_root: where the protocol's data set is, to show images of it in place of its stand-in's.
        cache: where decoded data are kept.

    Returns:
        The report: `passed`, `failures`, a result for each check, and `text()` for people.

    Raises:
        UserError: for what is not there, and for options or kinds that the method has not.
    """
    found, pictures = load_method(method), None
    on = None if protocol is None else load_protocol(protocol)
    if data_root is not None:
        if on is None:
            raise UserError(f"{option('data-root')} is given without {option('protocol')}, which names the data set")
        where = path_of(cache)
        pictures = pictures_of(
            load_dataset(on.protocol.dataset, path_of(data_root), where, download=False, base=on.base)
        )
    return check_method(
        found.cls,
        None if on is None else on.protocol,
        dict(options or {}),
        name=found.name,
        seed=seed,
        kinds=kinds,
        delays=delays,
        pictures=pictures,
    )
