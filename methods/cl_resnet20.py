"""CL-ResNet-20: ResNet-20 with memory in every layer (Babu, Savarese and Maire, "Online meta-learning via learning with
layer-distributed memory", NeurIPS 2021, section 4.5 and table 5)."""

from __future__ import annotations

from torch import Tensor, nn

from harness.method.interface import Task
from harness.method.option_types import Count, Positive
from methods.nn.cl_classifier import CLClassifier, Layer, Norm, Through
from methods.resnet20 import WIDTHS, blocks, shortcut


class CLResNet20(CLClassifier):
    """`ResNet20` whose convolutions are 3x3 convolutional LSTM layers, which take the place of the ReLUs too.

    A block's output is its input, through the shortcut, plus h of its second layer. Strides are those of the input
    convolutions; memory has the size that they leave. Sizes follow from the paper's parameter counts: channels are
    `width` times those of ResNet-20, rounded: 0.6 M at 0.5, 0.3 M at 0.35. The rest is as in `CLVGG11`.

    Options
    -------
    width : channels, in shares of those of ResNet-20.
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
        widths = tuple(max(1, round(width * each)) for each in WIDTHS)
        self.shapes = blocks(widths)
        self.stem = Layer(task.image_shape[0], widths[0], norm, forget_bias)
        self.firsts = nn.ModuleList(Layer(n, m, norm, forget_bias, stride) for n, m, stride in self.shapes)
        self.seconds = nn.ModuleList(Layer(m, m, norm, forget_bias) for _, m, _ in self.shapes)
        self.classify = nn.Linear(widths[-1], task.ways)

    def features(self, x: Tensor, through: Through) -> Tensor:
        maps = through(self.stem, x)
        for first, second, (_, channels, stride) in zip(self.firsts, self.seconds, self.shapes, strict=True):
            h = through(second, through(first, maps))  # type: ignore[arg-type]
            maps = shortcut(maps, channels, stride) + h
        return maps.mean((2, 3))
