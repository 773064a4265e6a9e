"""The method keeps the rules, computes what it says, and can learn."""

from __future__ import annotations

import torch

# isort: split
from harness import build_method, check, load_protocol, step_through, testing
from harness.training.episode_loss import episode_loss

# isort: split
from skeleton import Skeleton


def test_it_keeps_the_rules() -> None:
    report = check(Skeleton, options={"channels": 4})
    assert report.passed, report.text()


def test_its_answers_are_distances_to_plain_means() -> None:
    """An independent computation of the same thing, step by step, from all labels that
    were revealed so far."""
    protocol = load_protocol("omniglot_delay2").protocol
    episodes = testing.tiny_episodes(protocol)
    method = build_method(Skeleton, protocol, {"channels": 4})
    method.eval()
    with torch.no_grad():
        logits = step_through(method, episodes)[0]
        found = method.get_submodule("net")(episodes.x[:, 0])
    ways, delay = 5, 2
    for step in range(len(found)):
        for way in range(ways):
            seen = [t for t in range(step - delay + 1) if episodes.target[t, 0] == way]
            mean = found[seen].mean(0) if seen else torch.zeros_like(found[0])
            distance = (found[step] - mean).square().mean()
            torch.testing.assert_close(logits[step, 0, way], -distance)


def test_it_learns_one_batch_by_heart() -> None:
    protocol = load_protocol("omniglot_5way_online").protocol
    episodes = testing.tiny_episodes(protocol)
    method = build_method(Skeleton, protocol, {"channels": 8})
    optimizer = torch.optim.Adam(method.parameters(), 1e-2)
    losses = []
    for _ in range(20):
        loss = episode_loss(method, episodes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
