"""The episodes that checks make up and change, and the comparison of answers on them."""

from __future__ import annotations

import torch

from harness.check.compare import first_change
from harness.check.settings import Setting, streamed
from harness.check.tasks import assemble, changed, draw
from harness.evaluation.rollout import feedback_of


def test_changed_episodes_have_other_labels_and_inputs_exactly_where_asked() -> None:
    setting = Setting(3, (1, 4, 4), "delayed_label", 3)
    episodes, others = draw(setting, "a"), draw(setting, "b")
    time = torch.arange(setting.steps)[:, None]
    after = changed(episodes, others, inputs=time > 5, labels=time == 4)
    assert torch.equal((after.target != episodes.target).any(1).nonzero().flatten(), torch.tensor([4]))
    assert bool((after.target[4] != episodes.target[4]).all())
    assert torch.equal(after.x[:6], episodes.x[:6])
    assert bool((after.x[6:] != episodes.x[6:]).flatten(2).any(2).all())
    # The label of step 4 is revealed before step 7, and nothing else of the feedback moved.
    differs = (feedback_of(after).target != feedback_of(episodes).target).any(1)
    assert differs.nonzero().flatten().tolist() == [7]


def test_the_plan_of_made_up_episodes_counts_shots_and_reveals() -> None:
    target = torch.tensor([[0], [1], [0], [0], [1]])
    plan = assemble(torch.zeros(5, 1, 1, 2, 2), target, 2, streamed(5, 2)).plan
    assert plan.shot.tolist() == [[0, 0, 1, 2, 1]]
    assert plan.revealed.tolist() == [[0, 0, 1, 1, 1]]
    assert plan.feedback.tolist() == [[-1, -1, 0, 1, 0]]


def test_the_first_change_is_found_at_any_size_and_within_a_tolerance_only_beyond_it() -> None:
    before = torch.tensor([[[1.0, -1e6]], [[1.0, -1e6]], [[1.0, -1e6]]])
    after = before.clone()
    after[1, 0, 0] += 1e-6
    exact = first_change(before, after)
    assert exact is not None
    assert exact.step == 1
    assert first_change(before, after, 1e-6) is None
    after[2, 0, 0] += 0.5  # small beside the other class's -1e6, which must not excuse it
    beyond = first_change(before, after, 1e-6)
    assert beyond is not None
    assert (beyond.step, beyond.size) == (2, 0.5)
    after[2, 0, 0] = torch.nan
    unreal = first_change(before, after, 1e-6)
    assert unreal is not None
    assert (unreal.step, unreal.size) == (2, torch.inf)
