"""What a board's records come to: entries (a method under one setting, over its seeds), ranks, rows apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from harness.boards.entries import Entry, summarise
from harness.evaluation import intervals
from harness.evaluation.score import Each
from harness.records.marks import FAILED_CHECK, NOT_CHECKED, PARTIAL_TEST
from harness.records.record import Record, row_keys
from harness.records.same_run import adds_nothing

OTHER_DIGEST = "Another protocol digest"
OTHER_DATA = "Other data"
FAILED = "Failed a check"
UNCHECKED = "Not checked"
PARTIAL = "Partial test"
MORE = "More test episodes than the protocol has"
RANKINGS = ("accuracy", "query_accuracy", "joint", "iou")
"""The metrics that boards are ranked by, in the order in which a record without its protocol is asked for them."""

Reasons = tuple[tuple[str, str], ...]
"""Why an entry is not ranked: heading and detail of each reason."""

Key = tuple[str, int, str | None, bool]
"""Row key, seed, the weights that training began from, and whether the method was checked."""


@dataclass(frozen=True)
class Standings:
    """Ranked entries with their rank ('1', '2=', ...), best first by the metric `ranking`, entries apart under their
    headings, and the records that newer ones of the same setting and seed stand for."""

    ranking: str
    ranked: tuple[tuple[str, Entry], ...]
    apart: tuple[tuple[str, tuple[Entry, ...]], ...]
    older: tuple[Record, ...] = ()

    @property
    def entries(self) -> int:
        """How many entries there are, ranked or not."""
        return len(self.ranked) + sum(len(entries) for _, entries in self.apart)


def standings(
    records: Iterable[tuple[int, Record]],
    digest: str,
    test_episodes: int | None,
    ranking: str,
    values: Callable[[Record], Each | None] = lambda _: None,
    shown: Sequence[str] = (),
) -> Standings:
    """Groups a board's records (line number, record) and ranks them by the metric `ranking`.

    `digest` is the protocol's own. The data that rows are compared on are those of most records that nothing else sets
    apart (or, if there is none, of most with that digest); if two sets of data are equally common, those of the record
    in the later line.
    `test_episodes` is what the protocol asks for, None if it asks for the whole split. `values` gives a record's
    metrics in every test episode; without them (None), its own means and intervals are what there is to go by. Metrics
    that are `shown` besides are summarised meanwhile.
    """
    newest, older = _newest(records)
    # Everything that reasons follow from; records of one key have digest, data and test episodes in common.
    asked = [(row_key, id(record.marks), ranking in record.metrics) for (row_key, *_), record in newest.items()]
    alone: dict[tuple[str, int, bool], Reasons] = {}
    for each, record in zip(asked, newest.values(), strict=True):
        if each not in alone:
            alone[each] = tuple(_reasons(record, digest, test_episodes, ranking))
    sound = [record for each, record in zip(asked, newest.values(), strict=True) if not alone[each]]
    fingerprint = _common_fingerprint(sound or [each for each in newest.values() if each.digest == digest])
    known: dict[tuple[str, int, bool], Reasons] = {}
    groups: dict[tuple[str, Reasons], list[Record]] = {}
    for each, record in zip(asked, newest.values(), strict=True):
        if each not in known:
            known[each] = (*_other_data(record, digest, fingerprint), *alone[each])
        groups.setdefault((each[0], known[each]), []).append(record)
    entries = []
    for (row_key, reasons), group in groups.items():
        others = sum(len(older.get(_key(row_key, record), ())) for record in group) if older else 0
        entries.append((row_key, _entry(group, others, reasons, values)))
    summarise([entry for _, entry in entries], (*shown, ranking))
    entries.sort(key=lambda each: _order(each[0], each[1], ranking))
    under: dict[str | None, list[Entry]] = {None: [], **{heading: [] for heading in _headings(ranking)}}
    for _, entry in entries:
        under[_heading(entry)].append(entry)
    ranked = under.pop(None)
    return Standings(
        ranking,
        tuple(_ranks(ranked, ranking)),
        tuple((heading, tuple(found)) for heading, found in under.items() if heading and found),
        tuple(record for each in older.values() for record in each),
    )


def nothing_ranked(found: Standings) -> str:
    """What is said in the place of the table of a board without ranked rows."""
    return "No row is ranked; those below stand apart." if found.apart else "Nothing measured yet."


def usual_digest(records: Iterable[tuple[int, Record]]) -> str:
    """The digest of the record in the last line, for where the protocol's file is not at hand; '' if none."""
    newest = max(records, key=lambda each: each[0], default=None)
    return newest[1].digest if newest else ""


def usual_ranking(records: Iterable[tuple[int, Record]]) -> str:
    """What records without a protocol at hand are ranked by: the first of RANKINGS that the newest of them has."""
    newest = max(records, key=lambda each: each[0], default=None)
    metrics = newest[1].metrics if newest else {}
    return next((name for name in RANKINGS if name in metrics), RANKINGS[0])


def _newest(records: Iterable[tuple[int, Record]]) -> tuple[dict[Key, Record], dict[Key, list[Record]]]:
    """The newest record of each setting, seed and start, which is the one in the later line, in order of the lines, and
    those that are older.

    A seed that was trained twice would otherwise count twice in a mean over seeds; one that was trained from two other
    runs' weights is two trainings. The run's id is not asked: it is the name of a folder, and two people may give one
    name to different runs. A record whose conformance check was left out does not stand for an earlier one that was
    checked: both count until a checked one follows. Nor does a record of the very same run that leaves out some of
    what an earlier one says of it.
    """
    latest: dict[Key, Record] = {}
    older: dict[Key, list[Record]] = {}
    in_order = sorted(records, key=itemgetter(0))
    for (_, record), row_key in zip(in_order, row_keys([record for _, record in in_order]), strict=True):
        key = _key(row_key, record)
        unchecked: Key = (*key[:3], False)
        more = next((k for k in (key, _checked(key)) if k in latest and adds_nothing(record, latest[k])), None)
        if more is not None:
            older.setdefault(more, []).append(record)
            continue
        if key in latest:
            # Taken out first, so that they are in order of their lines.
            older.setdefault(key, []).append(latest.pop(key))
        if key != unchecked and unchecked in latest:
            older.setdefault(key, []).extend([*older.pop(unchecked, []), latest.pop(unchecked)])
        latest[key] = record
    return latest, older


def _key(row_key: str, record: Record) -> Key:
    return row_key, record.seed, record.init, NOT_CHECKED not in record.marks


def _checked(key: Key) -> Key:
    return (*key[:3], True)


def _common_fingerprint(found: Sequence[Record]) -> str | None:
    counts = Counter(record.data.fingerprint for record in found)
    last = {record.data.fingerprint: place for place, record in enumerate(found)}
    return max(counts, key=lambda each: (counts[each], last[each], each), default=None)


def _headings(ranking: str) -> tuple[str, ...]:
    """Why a row may stand apart, in the order in which several reasons are weighed."""
    return (OTHER_DIGEST, OTHER_DATA, FAILED, UNCHECKED, PARTIAL, MORE, _without(ranking))


def _without(ranking: str) -> str:
    return f"Without '{ranking}'"


def _other_data(record: Record, digest: str, fingerprint: str | None) -> Reasons:
    if record.digest != digest or record.data.fingerprint == fingerprint:
        return ()
    return ((OTHER_DATA, f"fingerprint {record.data.fingerprint[:12]}, most rows have {(fingerprint or 'none')[:12]}"),)


def _reasons(record: Record, digest: str, test_episodes: int | None, ranking: str) -> Iterator[tuple[str, str]]:
    """Why a record cannot be compared with the others, whatever data these have, in the order of the headings."""
    if record.digest != digest:
        yield OTHER_DIGEST, f"digest {record.digest[:12]}, the protocol's is {digest[:12]}"
    for mark in record.marks:
        if mark.startswith(FAILED_CHECK):
            yield FAILED, mark
        elif mark == NOT_CHECKED:
            yield UNCHECKED, "the run left the conformance check out"
    if test_episodes is not None and record.test_episodes < test_episodes:
        yield PARTIAL, f"{record.test_episodes} of {test_episodes} test episodes"
    elif PARTIAL_TEST in record.marks:
        yield PARTIAL, f"marked so; {record.test_episodes} test episodes"
    if test_episodes is not None and record.test_episodes > test_episodes:
        yield MORE, f"{record.test_episodes} test episodes, the protocol has {test_episodes}"
    if ranking not in record.metrics:
        yield _without(ranking), f"no metric '{ranking}'"


def _entry(
    records: list[Record],
    older: int,
    reasons: Reasons,
    values: Callable[[Record], Each | None],
) -> Entry:
    in_order = sorted(records, key=lambda record: record.seed)
    stored = tuple([values(record) for record in in_order])
    return Entry(tuple(in_order), older, reasons, stored)


def _heading(entry: Entry) -> str | None:
    return entry.reasons[0][0] if entry.reasons else None


def _order(row_key: str, entry: Entry, ranking: str) -> tuple[float, str, str]:
    """Best first; the name and the key settle equal values, so that the order never varies."""
    summary = entry.summary(ranking)
    return (-summary.mean if summary else 0.0, entry.newest.method, row_key)


def _ranks(entries: list[Entry], ranking: str) -> Iterable[tuple[str, Entry]]:
    """Ranks of entries sorted by `ranking`.

    An entry shares the rank of the first of that rank if the interval of their difference includes zero; the next rank
    counts all entries before it, as in a race.
    """
    place, leader, tied = 0, entries[0] if entries else None, Counter[int]()
    places = []
    for position, entry in enumerate(entries, start=1):
        assert leader is not None
        if position == 1 or _differ(leader, entry, ranking):
            place, leader = position, entry
        tied[place] += 1
        places.append(place)
    for place, entry in zip(places, entries, strict=True):
        yield f"{place}{'=' if tied[place] > 1 else ''}", entry


def _differ(first: Entry, second: Entry, metric: str) -> bool:
    """Whether the interval of the difference of two entries excludes zero: on the same episodes where they are stored
    for both, and else from their own intervals."""
    mine, theirs = first.by_episode(metric), second.by_episode(metric)
    if mine is not None and theirs is not None and mine.shape[1] == theirs.shape[1] > 1:
        change = intervals.paired(mine, theirs)
    else:
        one, other = first.estimate(metric), second.estimate(metric)
        if one is None or other is None:
            means = first.newest.metrics[metric].mean, second.newest.metrics[metric].mean
            return intervals.Change(means[0] - means[1], 0.0).excludes_zero
        change = intervals.unpaired(one, other)
    return change.excludes_zero
