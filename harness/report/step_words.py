"""A step of an episode in words: what was revealed and shown, and how it was answered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.episodes.plan import NULL, SUPPORT
from harness.report.shown_episodes import ShownEpisodes

Rows = list[list[str]]

ROLES = ("target", "distractor")
"""What class numbers 0 and 1 are where answers are masks."""


def softmax(logits: np.ndarray) -> np.ndarray:
    """The probabilities that answers [..., K] stand for; NaN where logits are no numbers."""
    with np.errstate(invalid="ignore", over="ignore"):
        shares: np.ndarray = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
        return shares / shares.sum(-1, keepdims=True)


def named_class(logits: np.ndarray) -> np.ndarray:
    """The class number of the largest logit of answers [..., K]."""
    found: np.ndarray = np.where(np.isnan(logits), -np.inf, logits).argmax(-1)
    return found


def confidence(logits: np.ndarray) -> tuple[int, float]:
    """The class of an answer's largest logit, and its probability under a softmax; NaN where that is no number."""
    number = int(named_class(logits))
    return number, float(softmax(logits)[number])


def short_answer(shown: ShownEpisodes, row: int, t: int) -> tuple[str, str]:
    """The answer at a step in a few letters ('✓ 3 · 82%', of a mask '64%'), and its style: right, wrong, or none.

    A mask is right where it earns at least a half.
    """
    logits, target = shown.logits_at(row, t), int(shown.plan.target[row, t])
    if logits is None:
        return "", ""
    if shown.protocol.masks:
        assert shown.earned is not None
        share = float(shown.earned[t, row])
        return f"{('IoU', 'masked')[target]} {share:.0%}", "right" if share >= 0.5 else "wrong"
    number, share = confidence(logits)
    right = number == target
    return f"{'✓' if right else '✗'} {number}" + (f" · {share:.0%}" if np.isfinite(share) else ""), (
        "right" if right else "wrong"
    )


def star(shown: ShownEpisodes, row: int, t: int) -> str:
    """'*' at a step that is scored at one of the shots which the protocol reports, else ''."""
    return "*" if shown.plan.scored[t] and int(shown.plan.shot[row, t]) in shown.protocol.shots else ""


def label(shown: ShownEpisodes, row: int, number: int) -> str:
    """A class number with the name of its class in this episode."""
    if shown.protocol.masks:
        return f"{ROLES[number]} {shown.class_name(row, number)}"
    return f"{number} {shown.class_name(row, number)}"


def sentence(shown: ShownEpisodes, row: int, t: int) -> str:
    """A step in one line, for whoever points at it."""
    return "; ".join(_parts(shown, row, t))


def table(shown: ShownEpisodes, row: int, steps: Sequence[int]) -> tuple[list[str], Rows]:
    """The steps as a table: its head and its rows."""
    plan, masks = shown.plan, shown.protocol.masks
    stream = bool(shown.protocol.shots)
    head = ["step", "revealed before it", "shown", "shot", *(["revealed"] if stream else [])]
    answers = shown.logits is not None and bool(plan.answer_mask[list(steps)].any())
    if answers:
        head += ["earned, %"] if masks else ["answer", "confidence, %", "earned, %"]
    rows = []
    for t in steps:
        shown_class = label(shown, row, int(plan.target[row, t]))
        rows.append([str(t), _revealed(shown, row, t), shown_class, f"{plan.shot[row, t]}{star(shown, row, t)}"])
        if stream:
            rows[-1].append(str(plan.revealed[row, t]))
    if answers:
        assert shown.earned is not None
        for cells, t in zip(rows, steps, strict=True):
            logits = shown.logits_at(row, t)
            assert logits is not None
            if not masks:
                number, share = confidence(logits)
                cells += [label(shown, row, number), f"{100 * share:.1f}" if np.isfinite(share) else "–"]
            cells.append(f"{100 * shown.earned[t, row]:.1f}")
    return head, rows


def _parts(shown: ShownEpisodes, row: int, t: int) -> Iterator[str]:
    plan, target = shown.plan, int(shown.plan.target[row, t])
    yield f"step {t}: {label(shown, row, target)}"
    if plan.phase[t] == SUPPORT:
        yield "its label is given with it"
    else:
        yield f"revealed before it: {_revealed(shown, row, t)}"
    logits = shown.logits_at(row, t)
    if logits is None:
        return
    if shown.protocol.masks:
        yield short_answer(shown, row, t)[0]
    else:
        number, share = confidence(logits)
        yield f"answered {label(shown, row, number)}" + (f" with {share:.0%}" if np.isfinite(share) else "")


def _revealed(shown: ShownEpisodes, row: int, t: int) -> str:
    source = int(shown.plan.feedback_step[t])
    if source == NULL:
        return "nothing"
    number = int(shown.plan.target[row, source])
    if shown.protocol.masks:
        return f"{('the mask', 'an empty mask')[number]} of step {source}"
    return f"{number}" if source == t else f"{number} of step {source}"
