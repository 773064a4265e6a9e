"""Which input a label is paired with."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from harness.check.conditions import scoring
from harness.check.report import Finding
from harness.check.settings import paired, streamed
from harness.check.subject import Subject
from harness.check.tasks import assemble, draw, numbers, revealing
from harness.check.walk import Life, adapted, ask, informed, joined, life_of, walked
from harness.episodes.source import Episodes
from harness.method.interface import Method

PLAIN = 0.85
"""How well a pairing must fit to be more than the luck of a net that is not trained yet."""

CLEAR = 0.15
"""By this much another pairing must fit better than the true one before pairing is called wrong."""

_QUERIES = 6


def pairing(subject: Subject) -> Finding:
    """A method must pair a label with the input it belongs to, where it can know it: told d, or given support pairs.

    No oracle says what an untrained method should answer, so the method is its own: it learns from constant images
    (every showing of a class is the same image) whose labels really belong to other inputs than it is told, by several
    displacements, and is then asked all classes from the state it ends in. It should favour the class that is shown
    most when there is no displacement. One that pairs with another step's input does best at another, and is named.
    """
    if subject.setting.pairs:
        return _of_pairs(subject)
    if not subject.fresh().needs_label_delay:
        return Finding("skipped", "the method is not told the label delay: it must work out which step is meant")
    return _of_delay(subject)


def _of_delay(subject: Subject) -> Finding:
    """Told d, the method steps through streams whose labels really come e steps late, for several e."""
    declared = subject.setting.delay
    assert declared is not None
    # In no order but a random one: where a class follows itself, the label of another step is right as well.
    stream = replace(subject.setting, kind="online_few_shot")
    timing = streamed(16 + declared, declared, _QUERIES)
    episodes = draw(stream, "pairing", batch=_batch(stream.ways), timing=timing, noise=0.0)
    own = _fits(subject, [episodes])[0]
    fits = {declared: own}
    if own < PLAIN:
        others = [delay for delay in range(declared + 3) if delay != declared]
        displaced = [revealing(episodes, streamed(16 + declared, delay, _QUERIES).feedback_step) for delay in others]
        # At delay 0 no label is due before the queries: that is another life. The rest are one batch.
        for some, lives in ((others[:1], displaced[:1]), (others[1:], displaced[1:])):
            fits |= zip(some, _tolerant_fits(subject, lives), strict=True)
    best = max(fits, key=lambda delay: (fits[delay], -abs(delay - declared)))
    if fits[best] > max(PLAIN, own + CLEAR):
        late = f"{best} step{'s' if best != 1 else ''}"
        return Finding(
            "failed",
            f"told that labels come {declared} step{'s' if declared != 1 else ''} late, it pairs each label with the "
            f"input of {late} before: its answers fit labels that are {late} late ({fits[best]:.0%} of comparisons "
            f"right) better than labels that are {declared} late ({own:.0%})",
        )
    if own < 0.5 + CLEAR:
        return _too_little(own)
    return Finding(reason=f"labels {declared} late favour the class they belong to ({own:.0%} of comparisons)")


def _of_pairs(subject: Subject) -> Finding:
    """Given support pairs, some with the label of the pair before or after in place of their own.

    Of two classes an untrained net that takes the pairs as a stream, where a label enters beside the next image, can
    favour the one beside it by the luck of one sign; so with two classes no pairing is called wrong.
    """
    ways = subject.setting.ways
    timing = paired(ways * max(2, 7 // ways), _QUERIES)
    episodes = draw(subject.setting, "pairing", batch=_batch(ways), timing=timing, noise=0.0)
    number, pairs = numbers(episodes), episodes.plan.first_query
    own = _fits(subject, [episodes])[0]
    if own < PLAIN and ways > 2:
        displaced = [torch.cat([number[:pairs].roll(shift, 0), number[pairs:]]) for shift in (1, -1)]
        fits = _fits(subject, [assemble(episodes.x, other, ways, timing) for other in displaced])
        found, which = max(zip(fits, ("before", "after"), strict=True))
        if found > max(PLAIN, own + CLEAR):
            return Finding(
                "failed",
                f"given support pairs, it pairs each label with the input of the pair {which}: its answers fit labels "
                f"displaced by one ({found:.0%} of comparisons right) better than true ones ({own:.0%})",
            )
    if own < 0.5 + CLEAR:
        return _too_little(own)
    return Finding(reason=f"support pairs favour the class of their label ({own:.0%} of comparisons)")


def _too_little(fit: float) -> Finding:
    return Finding("note", f"untrained, it favours the right class too little to tell ({fit:.0%})")


def _batch(ways: int) -> int:
    # With few ways, few comparisons of an episode are independent of each other.
    return max(8, 48 // ways)


def _tolerant_fits(subject: Subject, lives: list[Episodes]) -> list[float]:
    """The fits, with 0 of lives that a method refuses: it may want labels to come when it was told that they come."""
    try:
        return _fits(subject, lives)
    except (Exception, SystemExit):
        if len(lives) == 1:
            return [0.0]
    return [fit for each in lives for fit in _tolerant_fits(subject, [each])]


def _fits(subject: Subject, lives: list[Episodes]) -> list[float]:
    """The fit of each of several batches of one form, all lived through in one batch."""
    each = [life_of(episodes) for episodes in lives]
    rows = each[0].x.shape[1]
    answers = _query_logits(subject, joined(each)).split(rows, 1)
    return [_fit(episodes, found.double()) for episodes, found in zip(lives, answers, strict=True)]


def _fit(episodes: Episodes, answers: Tensor) -> float:
    """How often a query favours its class over another, both with a label revealed.

    Compared are logits minus their mean over the queries of the episode: what a class gets from being shown, and not
    from having been the last or the most frequent one.
    """
    plan = episodes.plan
    effect = answers - answers.mean(0)
    ways = plan.classes.shape[1]
    labels = torch.from_numpy(plan.feedback)
    known = (labels[..., None] == torch.arange(ways)).any(1)  # [B, ways]
    right = numbers(episodes)[plan.first_query :, :, None]
    fair = known & known.expand(len(right), -1, -1).gather(-1, right) & (right != torch.arange(ways))
    own = effect.gather(-1, right)
    won = (own > effect).double() + 0.5 * (own == effect).double()
    return float(won[fair].mean()) if fair.any() else 0.5


def _query_logits(subject: Subject, life: Life) -> Tensor:
    """Logits [Q, B, ways] of the queries. On kinds without any, each is a step that would follow the stream."""
    method = subject.fresh()
    _, state = walked(method, life.until(len(life.feedback)))
    with scoring(method):
        if subject.setting.queries:
            return ask(method, adapted(method, life, state), life.queries).detach()
        follows = Method.query(method, informed(method, life, state), life.queries.transpose(0, 1).clone())
        return follows.transpose(0, 1).detach()
