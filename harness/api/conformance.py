"""`harness.check`: whether a method keeps the rules of the interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.api.named import MethodLike, ProtocolLike, load_method, load_protocol
from harness.check import check_method
from harness.check.report import Report


def check(
    method: MethodLike,
    protocol: ProtocolLike | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    kinds: Sequence[str] | None = None,
    delays: Sequence[int] | None = None,
) -> Report:
    """Runs every conformance check on a method, on small random tasks and without data: `harness check`.

    Args:
        method: a name, 'file.py:Class', a class, or an instance (its class; it is built anew, with `options`).
        protocol: check on this protocol's kind only, with its ways, image shape and label delay.
        options: options of the method.
        seed: of the random weights.
        kinds: these kinds only, of those that the method declares.
        delays: label delays of streams, in place of 1, 3 and the protocol's own.

    Returns:
        The report: `passed`, `failures`, a result for each check, and `text()` for people.

    Raises:
        UserError: for what is not there, and for options or kinds that the method has not.
    """
    found = load_method(method)
    on = None if protocol is None else load_protocol(protocol).protocol
    return check_method(found.cls, on, dict(options or {}), name=found.name, seed=seed, kinds=kinds, delays=delays)
