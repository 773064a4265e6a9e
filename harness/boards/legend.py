"""What stands under a board's table of measured rows: how to read it."""

from __future__ import annotations

from collections.abc import Collection

from harness.protocol.models import AnyProtocol

LEGEND = """\
Numbers are per cent: the mean over seeds ± half the width of its 95 % interval, or '+ -' where the sides differ.
With several seeds the interval is over seeds and test episodes, with one seed over test episodes alone: it then
speaks of these trained weights. In the column of seeds, ± is the standard deviation of the {ranking} over them.
Entries share a rank, marked '=', if the 95 % interval of their difference from the first entry of the rank, on
the same episodes, includes zero."""

COLUMNS = {
    "options": "Options are those that differ from the method's defaults.",
    "state bytes": "State is what one\nepisode keeps in memory after its last step.",
}
"""What there is to know of columns, to be said where they are shown."""

VERIFIED = """\
Only rows marked 'isolated' are verified: the method was in a process without targets and data while it was scored, or
while random episodes were scored again when the row was submitted. In others it could reach both."""


def legend(protocol: AnyProtocol, ranking: str, isolated: bool = False, without: Collection[str] = ()) -> str:
    """How to read the measured rows of a protocol's board, which is ranked by `ranking`.

    `isolated` says that some of them are marked so, `without` names columns that are not shown.
    """
    columns = [text for name, text in COLUMNS.items() if name not in without]
    parts = [" ".join([LEGEND.format(ranking=ranking), *columns]), protocol.words.board, VERIFIED if isolated else ""]
    return "\n\n".join(filter(None, parts))
