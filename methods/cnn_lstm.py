"""CNN+LSTM: a conv net made by MAML under a memory (Babu, Savarese and Maire, "Online meta-learning via learning with
layer-distributed memory", NeurIPS 2021, table 2)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from harness.method.interface import Method, Task
from harness.method.option_types import Count, NotNegative
from methods.lstm import LSTM
from methods.maml import MAML
from methods.nn.functional_nets import FunctionalConv4, share_memory


class CNNLSTM(LSTM):
    """`LSTM` over a conv net that was first trained by `MAML` to be adapted by gradient; labels enter the LSTM only.

    The conv net is where MAML's episodes begin: 3x3 convolution, normalisation, ReLU and 2x2 max-pool, four times. A
    stream has no support set to take the normalisation's mean and variance over, so that they stay at what MAML's
    support sets had on average. Features are batch-normalised without scale or shift on their way into the LSTM, as
    `LSTM` has it; those statistics belong to the LSTM and follow the features while it trains.

    MAML is the pretraining method of a recipe's first stage: its own linear layer is thrown away after, and no gradient
    is taken when streams are scored. The state is the LSTM's: constant, and the label delay is not needed.

    Options
    -------
    frozen : the conv net stays as pretraining left it (CNN-F in the paper), or is trained with the LSTM.
    channels : width of the conv net; the paper does not say. 64 is customary, 256 has the 0.30 GFLOP that it prints.
    units, layers, layer_norm, resolution : as `LSTM` has them.
    inner_lr, inner_steps : of MAML; one learned rate for each parameter tensor, from `inner_lr` on.
    """

    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")

    def __init__(
        self,
        task: Task,
        frozen: bool = False,
        channels: Count = 64,
        units: Count = 256,
        layers: Count = 2,
        layer_norm: bool = True,
        resolution: Count | None = None,
        inner_lr: NotNegative = 0.4,
        inner_steps: Count = 1,
    ) -> None:
        super().__init__(task, "conv", channels, units, layers, layer_norm, resolution)
        depth, height, width = task.image_shape
        conv = FunctionalConv4((depth, resolution or height, resolution or width), channels, "support")
        conv.requires_grad_(not frozen)
        self.encode = nn.Sequential(_Features(conv, resolution), nn.BatchNorm1d(conv.dim, affine=False))
        self._maml = partial(
            MAML, channels=channels, rate="layer", inner_lr=inner_lr, inner_steps=inner_steps, resolution=resolution
        )

    def pretraining_method(self, task: Task) -> Method:
        """A MAML that trains this conv net, frozen or not."""
        maml = self._maml(task)
        share_memory(maml.learner.body, self.conv)
        return maml

    @property
    def conv(self) -> FunctionalConv4:
        """The conv net that MAML trains."""
        features = self.encode.get_submodule("0")
        assert isinstance(features, _Features)
        return features.net


class _Features(nn.Module):
    """The features [N, D] of images [N, C, H, W], pooled to a resolution if given, by running statistics."""

    def __init__(self, net: FunctionalConv4, resolution: int | None) -> None:
        super().__init__()
        self.net, self.resolution = net, resolution

    def forward(self, x: Tensor) -> Tensor:
        if self.resolution is not None:
            x = F.adaptive_avg_pool2d(x, self.resolution)
        return self.net(x, self.net.running_statistics())[0]
