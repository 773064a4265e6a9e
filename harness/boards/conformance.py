"""Whether a method keeps the rules of the interface: checked before its row is ranked, once for the same code."""

from __future__ import annotations

import contextlib
import json
from functools import cache as once
from pathlib import Path
from typing import Any

from harness.boards.store import LOG, Report
from harness.check import check_method
from harness.check.pictures import pictures_of
from harness.check.settings import settings_for
from harness.data.dataset import Dataset
from harness.data.open_dataset import default_cache
from harness.method.options import resolved_options
from harness.method.registry import LoadedMethod
from harness.protocol.models import AnyProtocol
from harness.records.canonical import sha256_of as json_hash
from harness.records.marks import FAILED_CHECK, NOT_CHECKED
from harness.records.provenance import versions
from harness.records.record import Record
from harness.util.atomic_files import replacing
from harness.util.errors import HarnessError
from harness.util.tensor_files import sha256_of


def checked(
    record: Record,
    method: LoadedMethod,
    protocol: AnyProtocol,
    dataset: Dataset | None = None,
    cache: Path | None = None,
    report: Report = LOG.warning,
) -> Record:
    """The record of a run, with a mark for each conformance check that its method fails: such a row is not ranked."""
    marks = check_marks(method, protocol, resolved_options(method.cls, record.options), dataset, cache)
    if marks:
        name = method.target if method.file else method.name
        report(f"the row will not be ranked ({'; '.join(marks)}); `harness check {name}` says why")
    return record.model_copy(update={"marks": [*record.marks, *marks]})


def unchecked(record: Record) -> Record:
    """The record of a run whose method was not checked, marked so."""
    return record.model_copy(update={"marks": [*record.marks, NOT_CHECKED]})


def check_marks(
    method: LoadedMethod,
    protocol: AnyProtocol,
    options: dict[str, Any],
    dataset: Dataset | None = None,
    cache: Path | None = None,
) -> list[str]:
    """A mark for each conformance check that a method fails on protocols of this kind; [] if it passes all.

    It is shown images of the data set (None: generated ones) where it is checked as it is scored. A pass is remembered
    in the cache folder, for the same source of the method and of the harness, the same options, task, data and versions
    of libraries: then nothing is run. A failure is not, since an accident may have made it.
    """
    folder = (cache or default_cache()).expanduser().absolute() / "checked"
    settings = settings_for(method.cls, protocol, None, None)
    key = json_hash(
        {
            "source": method.source_hash,
            "class": method.target.rpartition(":")[2],
            "options": json.loads(json.dumps(options, default=repr)),
            "settings": sorted(map(repr, settings)),
            "data": dataset.fingerprint if dataset else None,
            "harness": _own_source(),
            "versions": versions(),
        }
    )
    passed = folder / f"{key}.json"
    if passed.is_file():
        return []
    pictures = pictures_of(dataset) if dataset else None
    report = check_method(method.cls, protocol, options, name=method.name, pictures=pictures)
    if report.passed:
        # A cache that cannot be written costs the next run a few seconds, and no more.
        with contextlib.suppress(OSError, HarnessError):
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(passed) as temporary:
                temporary.write_text(json.dumps({"method": method.name, "tried_on": report.tried_on}), encoding="utf-8")
        return []
    return [f"{FAILED_CHECK}: {each.name}" for each in report.failures]


@once
def _own_source() -> str:
    """SHA-256 over the source files of the harness: other checks may find something else."""
    root = Path(__file__).resolve().parents[1]
    return json_hash({str(path.relative_to(root)): sha256_of(path) for path in sorted(root.rglob("*.py"))})
