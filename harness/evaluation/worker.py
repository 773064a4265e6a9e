"""The process in which an isolated method lives: it is handed feedback and inputs, and gives back its answers.

Run as `python -m harness.evaluation.worker SOCKET MEMORY`, by `harness.evaluation.isolated`. It confines itself before
it loads torch and the method; there is nothing here that the method could reach and must not: no targets, no scorer.
"""

from __future__ import annotations

import resource
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.evaluation.answers import answered
from harness.evaluation.messages import Channel, Closed
from harness.util.confinement import NAMESPACE, confine

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from harness.method.interface import Method, State


def main() -> None:
    """Confines this process, builds the method, and answers until the scorer hangs up."""
    connection, memory = map(int, sys.argv[1:])
    channel = Channel(socket.socket(fileno=connection), memory)
    first = channel.receive()
    how, why_not = first["confined"], None
    if how is None:
        why_not = confine(first["hidden"])
        how = NAMESPACE if why_not is None else None
    if first["bytes"]:
        resource.setrlimit(resource.RLIMIT_DATA, (first["bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28,) * 2)
    try:
        player = _answer_or_error(channel, "its construction", partial(Player, first, channel))
        if player is None:
            return
        facts = {"learns_by_gradient": player.method.learns_by_gradient, "transductive": player.method.transductive}
        channel.send({"confined": how, "why_not": why_not, **{name: bool(value) for name, value in facts.items()}})
        while True:
            message = channel.receive()
            reply = _answer_or_error(channel, message["do"], partial(player.does, message))
            if reply is not None:
                channel.send(reply)
    except Closed:
        return


class Player:
    """The method, built and with its weights, and the state of the episodes that it is in."""

    def __init__(self, first: dict[str, Any], channel: Channel) -> None:
        import torch

        from harness.method.interface import Task
        from harness.method.registry import build_method, load_method
        from harness.util.arithmetic import stay_exact

        torch.set_num_threads(first["threads"])
        torch.set_float32_matmul_precision(first["matmul"])
        stay_exact(torch.device(first["device"]))
        task = Task(**{**first["task"], "image_shape": tuple(first["task"]["image_shape"])})
        self.device = torch.device(first["device"])
        loaded = load_method(first["method"])
        self.method: Method = build_method(loaded.cls, task, first["options"], first["seed"], self.device)
        if first["weights"]:
            arrays = channel.get(first["weights"])
            parts = zip(first["names"], first["dtypes"], first["shapes"], arrays, strict=True)
            self.method.load_state_dict({name: _tensor(raw, dtype, shape) for name, dtype, shape, raw in parts})
        self.method.eval()
        torch.set_grad_enabled(bool(self.method.learns_by_gradient))
        self.channel = channel
        self.state: State = None

    def does(self, message: dict[str, Any]) -> dict[str, Any]:
        """Calls the method, keeps the new state, and gives its answer if there is one."""
        import torch

        from harness.evaluation.answers import plain, well_formed
        from harness.method.interface import Feedback

        method, what = self.method, message["do"]
        given = [torch.from_numpy(each).to(self.device) for each in self.channel.get(message["arrays"])]
        if what == "start":
            self.state = method.start(message["episodes"])
        elif what == "observe":
            self.state = method.observe(self.state, Feedback(*given))
        elif what == "adapt":
            self.state = method.adapt(self.state)
        else:
            if what == "predict":
                logits, self.state = answered(method, method.predict(self.state, given[0]))
            else:
                logits = method.query(self.state, given[0])
            return {"arrays": self.channel.put([plain(well_formed(method, what, logits, given[0]))])}
        return {}


def _tensor(raw: np.ndarray, dtype: str, shape: list[int]) -> Tensor:
    """A tensor from its bytes."""
    import torch

    kind = getattr(torch, dtype)
    return (torch.from_numpy(raw).view(kind) if len(raw) else torch.empty(0, dtype=kind)).reshape(shape)


def _answer_or_error(channel: Channel, what: str, call: Callable[[], Any]) -> Any:
    """What the call gives; None if it failed, after the scorer was told how."""
    from harness.util.errors import UserError
    from harness.util.faults import in_a_line

    try:
        return call()
    except UserError as error:
        channel.send({"refused": str(error)})
    except SystemExit as error:
        channel.send({"failed": f"ended its process (sys.exit({error.code!r})) in {what}"})
    except MemoryError:
        channel.send({"failed": f"ran out of memory in {what}"})
    except BaseException as error:
        channel.send({"failed": in_a_line(error, during=what)})
    return None


if __name__ == "__main__":
    main()
