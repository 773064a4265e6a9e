"""The convolutional LSTM layer (Shi et al. 2015, without peepholes; Babu et al. 2021, equations 1 to 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvLSTM(nn.Module):
    """One layer: i, f, o = sig(Wx * x + Wh * h), g = tanh(Wx * x + Wh * h), c' = f c + i g, h' = o tanh(c').

    `*` is a 3x3 convolution that keeps the size. The four gates share one input convolution (with the only bias)
    and one hidden convolution, in the order i, f, o, g. `forget_bias` is added to the forget gate's bias at the start.
    """

    def __init__(self, in_channels: int, channels: int, kernel: int = 3, forget_bias: float = 1.0) -> None:
        super().__init__()
        self.channels = channels
        self.inputs = nn.Conv2d(in_channels, 4 * channels, kernel, padding=kernel // 2)
        self.hidden = nn.Conv2d(channels, 4 * channels, kernel, padding=kernel // 2, bias=False)
        with torch.no_grad():
            assert self.inputs.bias is not None
            self.inputs.bias[channels : 2 * channels] += forget_bias

    def start(self, episodes: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Zero h and c, each [B, channels, height, width]."""
        zero = self.hidden.weight.new_zeros(episodes, self.channels, height, width)
        zero = zero.contiguous(memory_format=torch.channels_last)
        return zero, zero.clone()

    def sequence(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Outputs [T * B, channels, H, W] for inputs [T * B, in_channels, H, W], and the last state (h, c).

        B is that of the state; steps come first, so that the first B maps are those of the first step. The input
        convolutions of all steps are one call; only the hidden ones must wait for each other. Maps are kept in
        channels-last memory, which the convolutions of the CPU run up to twice as fast on small maps.
        """
        driven = self.inputs(x.contiguous(memory_format=torch.channels_last))
        outputs = []
        # Cut and joined as [T, B, H, W, channels], where both are plain copies of memory, forward and backward.
        for drive in driven.permute(0, 2, 3, 1).unflatten(0, (-1, len(state[0]))).unbind():
            state = self._gate(drive.permute(0, 3, 1, 2), state)
            outputs.append(state[0].permute(0, 2, 3, 1))
        return torch.stack(outputs).flatten(0, 1).permute(0, 3, 1, 2), state

    def first(self, x: Tensor) -> Tensor:
        """h' [N, channels, H, W] of inputs [N, in_channels, H, W] seen with empty memory: no hidden convolution."""
        i, _, o, candidate = self.inputs(x.contiguous(memory_format=torch.channels_last)).chunk(4, 1)
        return o.sigmoid() * (i.sigmoid() * candidate.tanh()).tanh()

    def apart(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Tensor:
        """Outputs h' [B * Q, channels, H, W] of inputs [B * Q, ...], each seen next after the state of its episode.

        Inputs of one episode stand together. The hidden convolution is done once a state, not once an input.
        """
        driven = self.inputs(x.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
        # Broadcast as [B, Q, H, W, channels]: what all queries share is never copied for each.
        past, c = (part.permute(0, 2, 3, 1).unsqueeze(1) for part in (self.hidden(state[0]), state[1]))
        h, _ = self._gated(driven.unflatten(0, (len(c), -1)) + past, c, -1)
        return h.flatten(0, 1).permute(0, 3, 1, 2)

    def _gate(self, drive: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return self._gated(drive + self.hidden(state[0]), state[1], 1)

    def _gated(self, gates: Tensor, c: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        gates, candidate = gates.split([3 * self.channels, self.channels], dim)
        i, f, o = gates.sigmoid().chunk(3, dim)
        c = f * c + i * candidate.tanh()
        return o * c.tanh(), c
