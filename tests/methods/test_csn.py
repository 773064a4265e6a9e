"""Conditionally shifted neurons against loops over labelled images and neurons."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.method.interface import Feedback, Task
from methods.csn import CSN, processed
from tests.helpers.stepping import noise_stream, seeded

WAYS, EPISODES = 3, 2


def built(delay: int | None = 1, kind: str = "delayed_label", **options: Any) -> CSN:
    with seeded(7):
        net = CSN(Task(WAYS, (1, 16, 16), kind, delay), **{"channels": 2, "key": 4, "hidden": 5, **options})
        for each in net.modules():
            if isinstance(each, torch.nn.BatchNorm2d):
                each.running_mean = torch.rand(each.num_features) * 0.4 - 0.3
                each.running_var = torch.rand_like(each.running_mean) + 0.5
    return net.double().eval()


def stream(delay: int, steps: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Noise x [T, B, C, H, W], targets and feedback [T, B]."""
    return noise_stream(delay, steps, WAYS, EPISODES)


def conv(net: CSN, layer: int, h: Tensor, own: bool) -> Tensor:
    """Pre-activations of a conv layer or block; `own`: by the statistics of layers after a shift."""
    after = layer - (4 - net.shifts) - 1

    def normalised(x: Tensor, norm: Any, place: Any) -> Tensor:
        used = place if own else norm
        return F.batch_norm(x, used.running_mean, used.running_var, norm.weight, norm.bias)

    if not residual(net):
        layers: Any = net.backbone.net.layers
        return normalised(layers[4 * layer](h), layers[4 * layer + 1], net.norms[after] if own else None)
    block: Any = net.backbone.net.blocks[layer]
    places: Any = list(net.norms)[4 * after : 4 * after + 4] if own else [None] * 4
    through = h
    for depth in range(3):
        through = normalised(block.layers[3 * depth](through), block.layers[3 * depth + 1], places[depth])
        if depth < 2:
            through = F.leaky_relu(through, 0.1)
    return through + normalised(block.past[0](h), block.past[1], places[3])


def residual(net: CSN) -> bool:
    return type(net.backbone.net).__name__ == "ResNet12"


def active(net: CSN, a: Tensor) -> Tensor:
    return F.leaky_relu(a, 0.1 if residual(net) else 0.0)


def gathered(net: CSN, h: Tensor) -> Tensor:
    return h.mean((2, 3)) if residual(net) else h.flatten(1)


def key_of(net: CSN, x: Tensor) -> Tensor:
    return net.key((net.key_net or net.backbone)(x.unsqueeze(0)))[0]


def remembered(net: CSN, x: Tensor, label: int) -> list[Tensor]:
    """The value of every neuron of the shifted layers, one neuron at a time."""
    h, before = x.unsqueeze(0), []
    for layer in range(4):
        a = conv(net, layer, h, False)
        if not a.requires_grad:
            a.requires_grad_()
        before.append(a)
        h = F.max_pool2d(active(net, a), 2)
    logits = net.classify(gathered(net, h))
    error = logits.softmax(-1)[0] - torch.eye(WAYS).double()[label]
    shifted, values = before[4 - net.shifts :], []
    slopes = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([label])), [*shifted, logits], retain_graph=True)
    for number, (a, slope) in enumerate(zip([*shifted, logits], slopes, strict=True)):
        found = []
        for neuron, g in zip(a.flatten().tolist(), slope.flatten().tolist(), strict=True):
            if net.by_gradient:
                small = abs(g) < math.exp(-10)
                size = -1.0 if small else math.log(abs(g)) / 10
                sign = math.exp(10) * g if small else math.copysign(1, g)
                info = torch.tensor([size, sign]).double()
            elif number == len(shifted):
                info = torch.tensor([g]).double()
            else:
                info = error.detach() * (1.0 if neuron > 0 else 0.1 if residual(net) else 0.0)
            found.append(net.values[number](info)[0])
        values.append(torch.stack(found).view(a.shape[1:]).detach())
    return values


def logits_of(net: CSN, shown: list[tuple[Tensor, int]], x: Tensor) -> Tensor:
    """Logits [ways] of one image after labelled ones."""
    memory = [(key_of(net, image), remembered(net, image, label)) for image, label in shown]
    query_key = key_of(net, x)
    weights = [math.exp(10 * F.cosine_similarity(query_key, key, dim=0).item()) for key, _ in memory]

    def shift(number: int) -> Tensor | float:
        if not memory:
            return 0.0
        return sum((w / sum(weights) * values[number] for w, (_, values) in zip(weights, memory, strict=True)))

    h = x.unsqueeze(0)
    for layer in range(4):
        number = layer - (4 - net.shifts)
        a = conv(net, layer, h, number > 0)
        beta = shift(number) if number >= 0 else 0.0
        h = F.max_pool2d(active(net, a) + active(net, torch.as_tensor(beta)), 2)
    return (net.classify(gathered(net, h)) + shift(net.shifts))[0]


VARIANTS: list[dict[str, Any]] = [
    {},
    {"shifts": 2, "keys": "shared"},
    {"shifts": 0},
    {"shifts": 0, "keys": "shared"},
    {"shifts": 2, "conditioning": "gradient"},
    {"backbone": "resnet12"},
    {"backbone": "resnet12", "shifts": 0, "keys": "shared"},
    {"backbone": "resnet12", "shifts": 2, "keys": "shared", "conditioning": "gradient"},
]


@pytest.mark.slow
@pytest.mark.parametrize("delay", [1, 3])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_answers_are_those_of_a_loop_over_labelled_images(options: dict[str, Any], delay: int) -> None:
    net = built(delay, **options)
    x, target, feedback = stream(delay)
    state, stepped = net.start(EPISODES), []
    for images, label in zip(x, feedback, strict=True):
        logits, state = net.predict(net.observe(state, Feedback(label)), images)
        stepped.append(logits)
    rolled = net.rollout(x, Feedback(feedback))
    for t in range(len(x)):
        for b in range(EPISODES):
            shown = [(x[i, b], int(target[i, b])) for i in range(t - delay + 1)]
            expected = logits_of(net, shown, x[t, b])
            for logits in (stepped[t][b], rolled[t, b]):
                torch.testing.assert_close(logits, expected, rtol=1e-7, atol=1e-9)


def test_where_logits_alone_are_shifted_what_is_learned_needs_only_features() -> None:
    net = built(backbone="resnet12", shifts=0, keys="shared")
    x, _, feedback = stream(1)
    found = net.memoryless_features()
    assert found.rest is not None
    assert found.whole
    features = found.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    torch.testing.assert_close(found.rest.rollout(features, Feedback(feedback)), net.rollout(x, Feedback(feedback)))
    assert built(shifts=0).memoryless_features().rest is None
    assert built(shifts=2, keys="shared").memoryless_features().rest is None


@pytest.mark.parametrize("backbone", ["conv4", "resnet12"])
def test_the_net_without_shifts_is_its_backbone(backbone: str) -> None:
    net = built(backbone=backbone)
    x, _, _ = stream(1)
    torch.testing.assert_close(net._unshifted(x[0])[1], net.backbone(x[0]))


def test_an_image_without_a_label_is_not_remembered() -> None:
    net = built()
    x, _, feedback = stream(1)
    feedback[4] = -1
    changed = x.clone()
    changed[3] = 0.0
    with torch.no_grad():
        first, second = (net.rollout(each, Feedback(feedback)) for each in (x, changed))
    torch.testing.assert_close(first[4:], second[4:])


def test_only_the_gradient_needs_autograd_while_scored() -> None:
    assert built(conditioning="gradient").learns_by_gradient
    assert not built().learns_by_gradient


def test_gradients_are_processed_by_size_and_sign() -> None:
    found = processed(torch.tensor([math.exp(-5.0), -1.0, 0.0, -math.exp(-12.0)]))
    expected = torch.tensor([[-0.5, 1.0], [0.0, -1.0], [-1.0, 0.0], [-1.0, -math.exp(-2.0)]])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["delayed_label", "n_way_k_shot"])
def test_what_is_stored_while_scored_keeps_no_graph_of_the_images(kind: str) -> None:
    net = built(conditioning="gradient", kind=kind, delay=1 if kind == "delayed_label" else None)
    image, label = torch.rand(EPISODES, 1, 16, 16, dtype=torch.float64), torch.zeros(EPISODES, dtype=torch.int64)
    state = net.start(EPISODES)
    if kind == "delayed_label":
        state = net.predict(state, image)[1]
    state = net.observe(state, Feedback(label, image if kind == "n_way_k_shot" else None))
    logits, state = net.predict(state, image)
    assert not any(each.requires_grad for each in [logits, *state.values()])
    assert state["values"].shape[1] == 1
