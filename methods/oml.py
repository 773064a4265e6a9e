"""OML: a representation made for online learning (Javed and White, "Meta-learning representations for continual
learning", NeurIPS 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from harness.method.interface import Feedback, State, Task
from harness.method.option_types import Count, Positive, Whole
from harness.training.interface import Batch
from methods.nn import label_pairing
from methods.nn.backbones import Conv4
from methods.nn.feature_net import FeatureNet
from methods.nn.functional_linear import FunctionalLinear, Rows
from methods.nn.gradient_learner import GradientLearner, TestOptimizer
from methods.nn.maps import channels_last
from methods.nn.remembering import ClassRows, MetaLoss, remember_loss


class OML(FeatureNet, GradientLearner):
    """A conv net that is fixed within an episode, under linear layers that take one SGD step a label.

    With features phi(x) of the representation net and the prediction net's weights W:

        W_0 is where every episode begins;  W <- W - rate dCE(W phi(x), y)/dW  at each revealed label;

    training minimises the loss of later answers (in streams of all answers) over phi and W_0, by its exact gradient
    through all inner steps (algorithm 2 of the paper). The released code before July 2020, and what was built on it,
    dropped the second-order part; `first_order` does so too. Updates are in closed form (`FunctionalLinear`): an
    episode's steps are a loop over its labels only, for all episodes at once, and the conv net sees all images in one
    call.

    The label delay d must be given; the state is the weights and the features of the last d samples. Since phi is
    fixed, nothing more of a sample is ever needed, and no gradient passes through the convolutions.

    Options
    -------
    net : 'flops' (six 3x3 convolutions without padding or normalisation, ReLU, strides 1, 1, 1, 2, 1, 2; from 64
        pixels a side 2, 1, 2, 1, 2, 2 as the source has it for 84) or 'text' (`Conv4`). Babu et al. 2021 describe a
        4-layer CNN under two fully connected layers, but the 1.46 GFLOP they print are those of the six convolutions.
    channels : width of the convolutions.
    final_relu : whether the features end in a ReLU, as in the sources. Without it they have both signs, so that those
        of different classes overlap less, and learning one class changes the others less (600 episodes of 5-way
        Omniglot, 32 channels of `Conv4`, one layer: 65.6 % instead of 50.7 % at one shot).
    hidden : width of the prediction net's hidden layer; 0 for a single linear layer, as in the source's later code.
    rate, learned_rate : learning rate of the inner steps, 0.03 in the source; whether it is trained (one a layer).
    rows : how a class's row of the last layer begins an episode: 'zero' (class numbers are then interchangeable),
        'random' (drawn once and fixed; the source draws them anew for every trajectory) or 'learned' (by number).
    first_order : drop the second-order part of the training gradient.
    meta_loss : what training minimises. 'episode': the loss of later answers, among the episode's own classes;
        'remember': the sources' loss of queries. The last layer then has a row for each training class, of which an
        episode's own begin anew; after its labelled samples its queries are answered among all of them, and so is a
        random batch of other training images, which the samples were not to make it forget. Scoring drops those rows.
        Needs queries (`continual`, `n_way_k_shot`), and updates of two episodes or more: the random batch is of the
        images of the others.
    remember : images of that batch, 15 in the source.
    test_optimizer, test_rate : what takes the steps in scoring: 'sgd', as in training, or 'adam' (beta1 0.9, beta2
        0.999) at `test_rate`, as in the sources, which train by SGD alike. They search that rate from 1e-5 to 0.03 on
        episodes of the classes that they score; here validation classes are there for it.
    """

    kinds = ("online_few_shot", "delayed_label", "continual", "n_way_k_shot")
    feature_net = "represent"

    def __init__(
        self,
        task: Task,
        *,
        net: Literal["flops", "text"] = "flops",
        channels: Count = 256,
        final_relu: bool = True,
        hidden: Whole = 1024,
        rate: Positive = 0.03,
        learned_rate: bool = False,
        rows: Rows = "zero",
        first_order: bool = False,
        meta_loss: MetaLoss = "episode",
        remember: Count = 15,
        test_optimizer: TestOptimizer = "sgd",
        test_rate: Positive = 1e-3,
    ) -> None:
        super().__init__(task)
        large = min(task.image_shape[1:]) >= 64
        strides = (2, 1, 2, 1, 2, 2) if large else (1, 1, 1, 2, 1, 2)
        self.represent: Conv4 | Strided
        if net == "text":
            self.represent = Conv4(task.image_shape[0], channels, final_relu)
        else:
            self.represent = Strided(task.image_shape[0], channels, strides, final_relu)
        self.dim = self.represent.features(task.image_shape)
        self.learner = FunctionalLinear(self.dim, hidden, task.ways, rows, rate, learned_rate, first_order)
        self.by_adam, self.test_rate, self.remember = test_optimizer == "adam", test_rate, remember
        self.class_rows = ClassRows(task, hidden or self.dim) if meta_loss == "remember" else None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        return (self.dim,)

    def encode(self, x: Tensor) -> Tensor:
        """Features phi(x) [B, N, D]."""
        return self.features(x)

    def encode_stream(self, x: Tensor) -> Tensor:
        """In the order of time: sums over images, in gradients and batch statistics, round by their order."""
        return self.encode(x).transpose(0, 1)

    def initial(self, episodes: int) -> State:
        """W_0 for every episode, and Adam's moments where it takes the steps."""
        weights = self.learner.start(episodes)
        return {"weights": weights, **({"moments": self.learner.moments(weights)} if self.steps_by_adam else {})}

    @property
    def steps_by_adam(self) -> bool:
        """Whether Adam takes the steps inside an episode, in the present mode."""
        return self.by_adam and not self.training

    def learn(self, state: State, samples: Tensor, target: Tensor) -> State:
        with self.outer_graph():
            if self.steps_by_adam:
                found = self.learner.adam_step(
                    state["weights"], state["moments"], samples[:, 0], target[:, 0], self.test_rate
                )
                return dict(zip(("weights", "moments"), found, strict=True))
            return {"weights": self.learner.sgd_step(state["weights"], samples[:, 0], target[:, 0])}

    def learn_all(self, state: State, samples: Tensor, target: Tensor) -> State:
        if self.steps_by_adam:
            return super().learn_all(state, samples, target)
        with self.outer_graph():
            return {**state, "weights": self.learner.sgd_steps(state["weights"], samples, target)}

    def answer(self, state: State, samples: Tensor) -> Tensor:
        return self.learner.logits(state["weights"], samples)

    def episode_loss(self, batch: Batch) -> Tensor | None:
        if self.class_rows is None:
            return None
        weights = self.class_rows.beside(self.learner.start(batch.target.shape[1]), batch.class_rows)
        return remember_loss(self, {"weights": weights}, batch, self.remember)

    def rollout(self, x: Tensor, feedback: Feedback) -> Tensor | None:
        """All images through the conv net at once; then the labels one by one; then all answers at once."""
        if self.steps_by_adam:
            return None
        with self.outer_graph():
            state, features = self.start(x.shape[1]), self.encode_stream(x)
            labelled, _ = label_pairing.pair(state["pending"], features)
            logits = self.learner.stream_logits(state["weights"], labelled, features, feedback.target.T)
            return logits.transpose(0, 1)


class Strided(nn.Module):
    """3x3 convolutions without padding, each followed by ReLU: [N, C, H, W] to [N, channels x height x width]."""

    def __init__(self, in_channels: int, channels: int, strides: Sequence[int], final_relu: bool) -> None:
        super().__init__()
        self.channels, self.strides = channels, tuple(strides)
        layers: list[nn.Module] = []
        for number, stride in enumerate(strides):
            conv = nn.Conv2d(in_channels if number == 0 else channels, channels, 3, stride)
            # Without normalisation the signal must keep its size through all layers by itself.
            nn.init.kaiming_normal_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
            layers += [conv, nn.ReLU()]
        if not final_relu:
            layers.pop()
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def features(self, image_shape: tuple[int, int, int]) -> int:
        """Number of features of one image of shape (C, H, W); raises ValueError for images too small."""
        sides = list(image_shape[1:])
        for stride in self.strides:
            sides = [(side - 3) // stride + 1 for side in sides]
        if min(sides) < 1:
            raise ValueError(
                f"images of {image_shape[1]}x{image_shape[2]} vanish in six convolutions without padding; use net=text"
            )
        return self.channels * sides[0] * sides[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(channels_last(x))
