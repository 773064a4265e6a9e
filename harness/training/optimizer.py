"""The optimiser of a stage while it runs: which parameters it moves, what it remembers of each, and one step.

The arithmetic is torch's own (the functional form of `torch.optim`). Its optimiser classes are not used, because to
make one imports torch's compiler, which takes as long as torch itself and compiles nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from harness.training.recipe import Optimizer
from harness.util.errors import UserError
from harness.util.option_names import switch

BETAS, EPS = (0.9, 0.999), 1e-8
"""Of Adam and AdamW: Kingma and Ba, 2015, algorithm 1, which are torch's defaults as well."""

_MEANS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Group:
    """Parameters with one weight decay."""

    parameters: tuple[nn.Parameter, ...]
    weight_decay: float


@dataclass(frozen=True)
class RunningOptimizer:
    """An optimiser as a recipe has it, over groups of parameters.

    `state` is what it remembers of each parameter that ever had a gradient, by the parameter's number, counted over all
    groups; names are those of `torch.optim`. `fused` steps are one kernel for all parameters of a group.
    """

    settings: Optimizer
    groups: tuple[Group, ...]
    fused: bool = False
    state: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """All parameters, in the order of their numbers."""
        return tuple(each for group in self.groups for each in group.parameters)

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for each in self.parameters:
            each.grad = None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Moves the parameters that have a gradient, at this learning rate."""
        first = 0
        for group in self.groups:
            moved = {number: each for number, each in enumerate(group.parameters, start=first) if each.grad is not None}
            first += len(group.parameters)
            if moved:
                self._step(moved, group.weight_decay, lr)

    def _step(self, moved: dict[int, nn.Parameter], weight_decay: float, lr: float) -> None:
        parameters: list[Tensor] = list(moved.values())
        gradients = [each.grad for each in parameters if each.grad is not None]
        fused = True if self.fused else None  # None: as torch chooses for the device
        if self.settings.name == "sgd":
            momentum = self.settings.momentum
            buffers = [self.state.get(number, {}).get("momentum_buffer") for number in moved]
            sgd(
                parameters,
                gradients,
                buffers,
                fused=fused,
                weight_decay=weight_decay,
                momentum=momentum,
                lr=lr,
                dampening=0.0,
                nesterov=False,
                maximize=False,
            )
            if momentum:
                kept = zip(moved, buffers, strict=True)
                self.state.update({number: {"momentum_buffer": each} for number, each in kept if each is not None})
            return
        for number, each in moved.items():
            if number not in self.state:
                self.state[number] = self._fresh(each)
        means, squares = ([self.state[number][name] for number in moved] for name in _MEANS)
        adam(
            parameters,
            gradients,
            means,
            squares,
            [],
            [self.state[number]["step"] for number in moved],
            fused=fused,
            decoupled_weight_decay=self.settings.name == "adamw",
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=lr,
            weight_decay=weight_decay,
            eps=EPS,
            maximize=False,
        )

    def _fresh(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """What Adam remembers of a parameter before its first step."""
        # A step that is counted on a GPU would have to be read from there, unless the one kernel does.
        step = torch.zeros((), dtype=torch.float32, device=parameter.device if self.fused else "cpu")
        zeros = {name: torch.zeros_like(parameter, memory_format=torch.preserve_format) for name in _MEANS}
        return {"step": step, **zeros}

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors ('<parameter number>.<name>')."""
        return {f"{number}.{name}": each for number, found in self.state.items() for name, each in found.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `tensors` gave, on the device of each parameter; UserError where it is of other parameters."""
        parameters = self.parameters
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            number, _, name = key.partition(".")
            if not number.isdecimal() or int(number) >= len(parameters):
                raise _other(f"it has a state of parameter {number}; {len(parameters)} are trained")
            parameter = parameters[int(number)]
            if name == "step":
                restored = tensor.to(parameter.device if self.fused else "cpu", torch.float32, copy=True)
            elif tensor.shape == parameter.shape:
                # Laid out like the parameter, as a state is that was never saved.
                restored = torch.empty_like(parameter, memory_format=torch.preserve_format).copy_(tensor)
            else:
                raise _other(
                    f"its state of parameter {number} has the shape {tuple(tensor.shape)}, the parameter "
                    f"{tuple(parameter.shape)}"
                )
            state.setdefault(int(number), {})[name] = restored
        self.state.clear()
        self.state.update(state)


def _other(what: str) -> UserError:
    return UserError(f"the checkpoint is not of this training: {what}; set the run folder aside with {switch('fresh')}")


def running_optimizer(settings: Optimizer, parameters: Sequence[nn.Parameter]) -> RunningOptimizer:
    """The optimiser that a recipe describes, over the parameters that a stage trains, with nothing to remember yet."""
    groups = [Group(tuple(parameters), settings.weight_decay)]
    if settings.weight_decay_of == "matrices":
        decayed, others = (tuple(each for each in parameters if (each.dim() > 1) == matrix) for matrix in (True, False))
        groups = [Group(decayed, settings.weight_decay), Group(others, 0.0)]
    # One kernel for all parameters on a GPU; on a CPU it would save at most a few per cent, and train to other bits.
    fused = bool(parameters) and all(each.is_cuda for each in parameters)
    return RunningOptimizer(settings, tuple(groups), fused)
