"""What features are a function of, in the keys of the cache: the net, what it computes here, and the arithmetic."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn

from harness.method.source import class_hash
from harness.util.precision import Precision
from harness.util.tensor_files import content_of


def key_of(settings: dict[str, Any]) -> str:
    """SHA-256 (hex) of settings that JSON can hold."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def code_of(net: nn.Module) -> dict[str, str]:
    """SHA-256 (hex) over the source of each module class of a net but torch's own, with what its file imports from the
    same package: two nets may compute the same and differ in gradients, or in training alone."""
    classes = {type(each) for each in net.modules() if type(each).__module__.partition(".")[0] != "torch"}
    return {f"{each.__module__}.{each.__qualname__}": class_hash(each) for each in classes}


def probe_of(net: nn.Module, image_shape: tuple[int, int, int], device: torch.device) -> str:
    """SHA-256 (hex) of what a net makes of a few random images, in training and in evaluation mode.

    Modules of the same layers may compute different things; what is computed differently gives other bits. A copy
    is asked, so that running statistics stay as they are.
    """
    net = copy.deepcopy(net)
    outputs: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(0)
        x = torch.rand(4, *image_shape).to(device)
        for mode in (True, False):
            outputs[str(mode)] = net.train(mode)(x)
    return content_of(outputs)


def arithmetic_of(device: torch.device, precision: Precision) -> list[Any]:
    """What numbers are rounded by: the device, the precision, torch, its threads and kernels."""
    return [
        *(device.type, precision, torch.__version__),
        *(torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()),
        torch.get_float32_matmul_precision(),
    ]
