"""CL-VGG-11: VGG-11 with memory in every layer (Babu, Savarese and Maire, "Online meta-learning via learning with
layer-distributed memory", NeurIPS 2021, section 4.5 and table 5)."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from harness.method.interface import Task
from harness.method.option_types import Count, Positive
from methods.nn.cl_classifier import CLClassifier, Layer, Norm, Through
from methods.vgg11 import WIDTHS, pooled


class CLVGG11(CLClassifier):
    """`VGG11` whose convolutions are 3x3 convolutional LSTM layers, which take the place of the ReLUs too.

    Sizes follow from the paper's parameter counts: an input and a hidden convolution for each of four gates, and
    channels of `width` times those of VGG-11, rounded to a multiple of 8: 20.0 M at 0.5, 9.5 M at 0.35. The paper
    gives neither the number of steps nor the normalisation. In one step, the default, memory begins at zero, so that a
    layer is h = sig(o) tanh(sig(i) tanh(g)) and the hidden convolutions and forget gates, which the paper counts, are
    reached by nothing.

    Options
    -------
    width : channels, in shares of those of VGG-11.
    steps : how often an image is shown; the answer is that of the last time.
    norm : 'outputs' batch-normalises each layer's output on its way up (never the recurrent path; statistics over
        images, steps and space), 'gates' what the input convolution gives each gate, 'none' leaves it out.
    resolution : side to which images are average-pooled first, or None for their own size.
    forget_bias : where the forget gates' biases start.
    """

    def __init__(
        self,
        task: Task,
        width: Positive = 0.5,
        steps: Count = 1,
        norm: Norm = "outputs",
        resolution: Count | None = None,
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__(task, steps, resolution)
        widths = [max(8, 8 * round(width * each / 8)) for each in WIDTHS]
        before = (task.image_shape[0], *widths)
        self.layers: Iterable[Layer] = nn.ModuleList(  # type: ignore[assignment]
            Layer(n, m, norm, forget_bias) for n, m in zip(before, widths, strict=False)
        )
        self.classify = nn.Linear(widths[-1], task.ways)

    def features(self, x: Tensor, through: Through) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = pooled(through(layer, x), number)
        return x.mean((2, 3))
