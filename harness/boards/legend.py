"""What stands under a board's table of measured rows: how to read it."""

from __future__ import annotations

from harness.protocol.models import AnyProtocol

LEGEND = """\
Numbers are per cent: the mean over seeds ± half the width of its 95 % interval, or '+ -' where the sides differ.
With several seeds the interval is over seeds and test episodes, with one seed over test episodes alone: it then
speaks of these trained weights. In the column of seeds, ± is the standard deviation of the {ranking} over them.
Entries share a rank, marked '=', if the 95 % interval of their difference from the first entry of the rank, on
the same episodes, includes zero. Options are those that differ from the method's defaults. State is what one
episode keeps in memory after its last step."""


VERIFIED = """\
Only rows marked 'isolated' are verified: the method was in a process without targets and data while it was scored, or
while random episodes were scored again when the row was submitted. In others it could reach both."""


def legend(protocol: AnyProtocol, ranking: str, isolated: bool = False) -> str:
    """How to read the measured rows of a protocol's board, which is ranked by `ranking`.

    `isolated` says that some of them are marked so.
    """
    parts = [LEGEND.format(ranking=ranking), protocol.words.board, VERIFIED if isolated else ""]
    return "\n\n".join(filter(None, parts))
