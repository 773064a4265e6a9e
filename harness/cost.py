"""What a method costs while it is scored: parameters, floating-point operations and bytes of state."""

from __future__ import annotations

import copy
import warnings

import torch

from harness.method import Feedback, Method, state_bytes
from harness.record import Cost


def measured_cost(method: Method, steps: int) -> Cost:
    """The cost of one episode of `steps` steps, measured by stepping through one on the CPU.

    Operations count two for a multiply and add, as the papers do. A step is one observe and one predict, averaged
    over the episode. The growth of the state is taken between the middle of the episode and its end.
    """
    from torch.utils.flop_counter import FlopCounterMode

    probe = copy.deepcopy(method).cpu().eval()
    ways = method.task.ways
    sizes = []
    # Without oneDNN the LSTM runs as plain matrix products, which the counter sees.
    with (
        warnings.catch_warnings(action="ignore"),
        torch.set_grad_enabled(method.learns_by_gradient),
        torch.backends.mkldnn.flags(enabled=False),
        FlopCounterMode(display=False) as counter,
    ):
        state = probe.start(1)
        for t in range(steps):
            delay = method.task.label_delay or 1
            state = probe.observe(state, Feedback(torch.tensor([(t - delay) % ways if t >= delay else -1])))
            _, state = probe.predict(state, torch.zeros(1, *method.task.image_shape))
            sizes.append(state_bytes(state))
    half = steps // 2
    growth = (sizes[-1] - sizes[half]) / (steps - 1 - half) if steps > half + 1 else 0.0
    return Cost(
        parameters=sum(each.numel() for each in method.parameters()),
        gflop_per_step=counter.get_total_flops() / steps / 1e9,
        state_bytes=sizes[-1],
        state_growth="with t" if growth else "constant",
        growth_bytes_per_step=growth,
    )
