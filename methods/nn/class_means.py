"""Running means by class of something that every labelled image has: constant memory, whatever the stream's length."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.method.interface import State, one_hot


def start(like: Tensor, episodes: int, ways: int, delay: int, features: int, statistics: int) -> State:
    """No labels yet: means [B, ways, M], counts [B, ways], and features [B, d, D] that await their labels."""
    zeros = like.new_zeros
    return {
        "means": zeros(episodes, ways, statistics),
        "counts": zeros(episodes, ways),
        "pending": zeros(episodes, delay, features),
    }


def learned(state: State, statistics: Tensor, target: Tensor) -> State:
    """The state after one image with statistics [B, M] was found to be of class `target` [B]; null (-1) has no say."""
    hit = one_hot(target, state["counts"].shape[1]).to(statistics.dtype)
    counts = state["counts"] + hit
    step = (hit / counts.clamp(min=1)).unsqueeze(-1)
    return {**state, "means": state["means"] + step * (statistics.unsqueeze(1) - state["means"]), "counts": counts}


def absorbed(state: State, statistics: Tensor, target: Tensor) -> State:
    """The state after many images at once: statistics [T, B, M], target [T, B]."""
    hit = one_hot(target, state["counts"].shape[1]).to(statistics.dtype)
    counts = state["counts"] + hit.sum(0)
    sums = state["counts"].unsqueeze(-1) * state["means"] + torch.einsum("tbk,tbm->bkm", hit, statistics)
    return {**state, "means": sums / counts.clamp(min=1).unsqueeze(-1), "counts": counts}


def streamed(statistics: Tensor, target: Tensor, delay: int, ways: int) -> tuple[Tensor, Tensor]:
    """Means [T, B, ways, M] and counts [T, B, ways] before each step of a stream from its beginning.

    statistics [T, B, M] are those of step t; target [T, B] is what is revealed before it: the label of step t - delay.
    """
    awaited = torch.cat([torch.zeros_like(statistics[:delay]), statistics[:-delay]])
    hit = one_hot(target, ways).to(statistics.dtype)
    counts = hit.cumsum(0)
    sums = (hit.unsqueeze(-1) * awaited.unsqueeze(-2)).cumsum(0)
    return sums / counts.clamp(min=1).unsqueeze(-1), counts


def due(state: State, features: Tensor, target: Tensor, pairs: bool) -> tuple[State, Tensor]:
    """Which features [T, B, D] the labels [T, B] are of, and the state with those pending that are left over.

    `features` are those of the images shown; support pairs have their own labels, in a stream those are due first that
    were pending.
    """
    if pairs:
        return state, features
    fed = torch.cat([state["pending"].transpose(0, 1), features])
    return {**state, "pending": fed[len(target) :].transpose(0, 1)}, fed[: len(target)]
