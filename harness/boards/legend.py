"""What stands under a board's table of measured rows: how to read it, by the protocol's kind."""

from __future__ import annotations

from harness.protocol.models import (
    AnyProtocol,
    Continual,
    DelayedLabel,
    NWayKShot,
    OnlineFewShot,
    SegmentationDistractors,
    Supervised,
)

LEGEND = """\
Numbers are per cent: the mean over seeds ± half the width of the 95 % interval over test episodes. All seeds
answer the same episodes, so the interval is the mean of the seeds' own and does not shrink with their number.
In the column of seeds, ± is the standard deviation of the {ranking} over them. Entries share a rank, marked
'=', if their intervals overlap that of the first entry of the rank. Options are those that differ from the
method's defaults. State is what one episode keeps in memory after its last step."""

IID = """\
Classes are drawn independently from step to step, so an episode may lack a shot: `accuracy` is the mean over all
steps, first presentations among them, and `accuracy@shot=k` is over the episodes that have such a step."""

CONTINUAL = """\
`query_accuracy` is over the queries of all subtasks, asked after the last of them; `query_accuracy@earlier` is over
those of all subtasks but the last, `query_accuracy@last` over those of the last."""

K_SHOT = """\
`query_accuracy` is over the queries, asked after the whole support set. Its shots are labelled samples of a class,
not positions in a stream: it cannot be compared with `accuracy@shot=k`."""

IOU = """\
`iou@shot=k` is the intersection over union of the target's mask at its (k+1)-th presentation, """

DISTRACTOR = f"""{IOU}`masking@shot=k` the
share of the distractor's object pixels that are called background at its own (k+1)-th presentation, and `joint` the
mean of both over these shots: calling everything object earns the first and loses the second."""

PLAIN = f"""{IOU}`iou` the mean over
these shots."""

SUPERVISED = "`accuracy` is over the images of the test split, each of which is an episode of one step."


def legend(protocol: AnyProtocol, ranking: str) -> str:
    """How to read the measured rows of a protocol's board, which is ranked by `ranking`."""
    own = _own(protocol)
    return LEGEND.format(ranking=ranking) + (f"\n\n{own}" if own else "")


def _own(protocol: AnyProtocol) -> str:
    """What only the columns of this kind need; '' for streams, whose shots are in the README's words."""
    match protocol:
        case Continual():
            return CONTINUAL
        case NWayKShot():
            return K_SHOT
        case SegmentationDistractors():
            return DISTRACTOR if protocol.episode.distractor else PLAIN
        case Supervised():
            return SUPERVISED
        case OnlineFewShot() | DelayedLabel() if protocol.episode.order == "iid":
            return IID
        case _:
            return ""
