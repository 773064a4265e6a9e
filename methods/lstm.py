"""LSTM: the recurrent baseline, over conv features (Ren et al., "Wandering within a world: online
contextualized few-shot learning", ICLR 2021) or over pixels (Santoro et al., "Meta-learning with
memory-augmented neural networks", ICML 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.method.interface import State, Task, one_hot
from harness.method.option_types import Count
from methods.nn.feature_net import FeatureNet
from methods.nn.features import FeatureKind, encoder
from methods.nn.lstm_cell import recurrent
from methods.nn.sequence_learner import SequenceLearner

_PIXELS = 20
"""Side of the images that Santoro et al. feed."""


class LSTM(FeatureNet, SequenceLearner):
    """Features of the image beside the one-hot newest label (null: zeros), an LSTM, and a linear classifier.

    The two public configurations (Babu et al. 2021 do not say which one their table 1 has):

    - `features='conv'`: a conv4 net whose features are batch-normalised without scale or shift (ours), then two
      layers of 256 units with layer normalisation (Ren et al.).
    - `features='pixels'`: the image pooled to 20x20 and flattened, then 200 units (Santoro et al.).

    The forget gate's bias starts at 1. The state is (h, c) of each layer and the pending label: its size is
    constant, and the label delay is not needed.

    Options
    -------
    features : 'conv' or 'pixels'.
    channels : width of the conv net (unused with pixels).
    units, layers : of the LSTM; None means 256 and 2 with conv, 200 and 1 with pixels.
    layer_norm : normalise the gates; None means yes with conv, no with pixels.
    resolution : side to which images are average-pooled first; None means their own size with conv, 20 with
        pixels.
    """

    feature_net = "encode"

    def __init__(
        self,
        task: Task,
        features: FeatureKind = "conv",
        channels: Count = 64,
        units: Count | None = None,
        layers: Count | None = None,
        layer_norm: bool | None = None,
        resolution: Count | None = None,
    ) -> None:
        super().__init__(task)
        of_conv = features == "conv"
        units = (256 if of_conv else 200) if units is None else units
        layers = (2 if of_conv else 1) if layers is None else layers
        if features == "pixels" and resolution is None:
            resolution = _PIXELS
        # Centred features: the one trial that left the two-way plateau (after 1000 updates) had these, 128 units and no
        # layer norm; the one that had not left it after 4000 had none of the three. Which matters was not taken apart.
        self.encode, size = encoder(task.image_shape, features, channels, resolution)
        self.recur = recurrent(size + task.ways, units, layers, of_conv if layer_norm is None else layer_norm)
        self.classify = nn.Linear(units, task.ways)
        self._memory = (layers, units)

    def initial(self, episodes: int) -> State:
        """Zero h and c, each [B, layers, units]."""
        zero = self.classify.weight.new_zeros(episodes, *self._memory)
        return {"h": zero, "c": zero.clone()}

    def run(self, x: Tensor, labels: Tensor, state: State) -> tuple[Tensor, State]:
        features = self.features(x)
        inputs = torch.cat([features, one_hot(labels, self.task.ways).to(features.dtype)], -1)
        memory = (state["h"].transpose(0, 1).contiguous(), state["c"].transpose(0, 1).contiguous())
        hidden, (h, c) = self.recur(inputs, memory)
        return self.classify(hidden), {"h": h.transpose(0, 1), "c": c.transpose(0, 1)}
