"""The convolutional LSTM layer (Shi et al. 2015, without peepholes; Babu et al. 2021, equations 1 to 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.nn import conv_lstm_sequence
from methods.nn.maps import channels_last


class ConvLSTM(nn.Module):
    """One layer: i, f, o = sig(Wx * x + Wh * h), g = tanh(Wx * x + Wh * h), c' = f c + i g, h' = o tanh(c').

    `*` is a 3x3 convolution that keeps the size. The four gates share one input convolution (with the only bias)
    and one hidden convolution, in the order i, f, o, g. `forget_bias` is added to the forget gate's bias at the start.
    `hidden_kernel` is the hidden convolution's, if not `kernel`. `stride` is that of the input convolution; memory has
    the size that it leaves. With `normalize` its output is batch-normalised (never the recurrent path), gate by gate
    and channel by channel; the shift is then the bias.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int = 3,
        forget_bias: float = 1.0,
        stride: int = 1,
        normalize: bool = False,
        hidden_kernel: int | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.inputs = nn.Conv2d(in_channels, 4 * channels, kernel, stride, kernel // 2, bias=not normalize)
        reach = hidden_kernel or kernel
        self.hidden = nn.Conv2d(channels, 4 * channels, reach, padding=reach // 2, bias=False)
        self.norm = nn.BatchNorm2d(4 * channels) if normalize else None
        with torch.no_grad():
            bias = self.inputs.bias if self.norm is None else self.norm.bias
            assert bias is not None
            bias[channels : 2 * channels] += forget_bias

    def start(self, episodes: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Zero h and c, each [B, channels, height, width]."""
        zero = self.hidden.weight.new_zeros(episodes, self.channels, height, width)
        zero = zero.contiguous(memory_format=torch.channels_last)
        return zero, zero.clone()

    def sequence(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None, steps: int = 1
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Outputs [T * B, channels, H, W] for inputs [T * B, in_channels, H, W], and the last state (h, c).

        B is that of the state; steps come first, so that the first B maps are those of the first step. Without a state
        memory is empty before the first of `steps` steps, which then has no hidden convolution. The input
        convolutions of all steps are one call; only the hidden ones must wait for each other (`conv_lstm_sequence`).
        Maps are kept in channels-last memory, which the convolutions of the CPU run up to twice as fast on small maps.
        """
        if state is None and steps == 1:
            state = self._first_state(x)
            return state[0], state
        driven = self._driven(x)
        h, c = state if state is not None else self.start(len(x) // steps, *driven.shape[2:])
        outputs, c = conv_lstm_sequence.steps(
            driven.permute(0, 2, 3, 1).unflatten(0, (-1, len(h))),
            h.permute(0, 2, 3, 1),
            c.permute(0, 2, 3, 1),
            self.hidden.weight,
            empty=state is None,
        )
        return outputs.flatten(0, 1).permute(0, 3, 1, 2), (outputs[-1].permute(0, 3, 1, 2), c.permute(0, 3, 1, 2))

    def first(self, x: Tensor) -> Tensor:
        """h' [N, channels, H, W] of inputs [N, in_channels, H, W] seen with empty memory: no hidden convolution."""
        return self._first_state(x)[0]

    def apart(self, x: Tensor, state: tuple[Tensor, Tensor]) -> Tensor:
        """Outputs h' [B * Q, channels, H, W] of inputs [B * Q, ...], each seen next after the state of its episode.

        Inputs of one episode stand together. The hidden convolution is done once a state, not once an input.
        """
        driven = self._driven(x).permute(0, 2, 3, 1)
        # Broadcast as [B, Q, H, W, channels]: what all queries share is never copied for each.
        past, c = (part.permute(0, 2, 3, 1).unsqueeze(1) for part in (self.hidden(state[0]), state[1]))
        gates, candidate = (driven.unflatten(0, (len(c), -1)) + past).split([3 * self.channels, self.channels], -1)
        i, f, o = gates.sigmoid().chunk(3, -1)
        h = o * (f * c + i * candidate.tanh()).tanh()
        return h.flatten(0, 1).permute(0, 3, 1, 2)

    def _driven(self, x: Tensor, gates: slice = slice(None)) -> Tensor:
        """What the inputs say to the channels `gates` of the four gates."""
        conv, norm = self.inputs, self.norm
        bias = None if conv.bias is None else conv.bias[gates]
        maps = F.conv2d(channels_last(x), conv.weight[gates], bias, conv.stride, conv.padding)
        if norm is None:
            return maps
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        scale, shift = norm.weight[gates], norm.bias[gates]
        return F.batch_norm(maps, mean[gates], variance[gates], scale, shift, norm.training, 0.1, norm.eps)

    def _first_state(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """h and c after inputs seen with empty memory, which there is nothing to forget of: three gates of the four."""
        i = self._driven(x, slice(self.channels)).sigmoid()
        o, candidate = self._driven(x, slice(2 * self.channels, None)).chunk(2, 1)
        c = i * candidate.tanh()
        return o.sigmoid() * c.tanh(), c
