"""Methods that are played in a worker by test_isolated.py: they look around in it, or end it."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.method.interface import CLASSES, MASKS, Feedback, Method, State, Task


class Sums(Method):
    """Its answers move with all that it was handed, its weights and the order of it; of every kind."""

    kinds = CLASSES + MASKS

    def __init__(self, task: Task, units: int = 3) -> None:
        super().__init__(task)
        self.weight = nn.Parameter(torch.randn(units, task.ways))
        self.register_buffer("scale", torch.tensor(0.5, dtype=torch.bfloat16))
        self.register_buffer("nothing", torch.zeros(0, 2))

    def start(self, episodes: int) -> State:
        return {"seen": torch.zeros(episodes, 3)}

    def observe(self, state: State, feedback: Feedback) -> State:
        label = feedback.target.flatten(1).float().mean(1) if feedback.target.dim() > 1 else feedback.target.float()
        shown = torch.zeros_like(label) if feedback.x is None else feedback.x.flatten(1).mean(1)
        return {"seen": state["seen"] * 0.9 + torch.stack([label, shown, label * shown], 1)}

    def adapt(self, state: State) -> State:
        return {"seen": state["seen"].cos()}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        after = {"seen": state["seen"] + x.flatten(1)[:, :3]}
        if self.task.kind in MASKS:
            return x[:, :1] - after["seen"].mean(1).view(-1, 1, 1, 1), after
        return (after["seen"] * self.scale.float()).sin() @ self.weight[:3], after


class Trouble(Method):
    """Fails in the way that the number of episodes asks for."""

    def start(self, episodes: int) -> State:
        match episodes:
            case 1:
                raise KeyError("no such\x1b[31m thing\nand more")
            case 2:
                sys.exit("enough")
            case 3:
                print("x" * 100_000, flush=True)
                os.write(1, b"\x00\xff" * 1000 + b"\n")
            case 4:
                torch.empty(3 << 30)  # 12 GB
            case 5:
                time.sleep(60)
            case 6:
                os.write(2, b"a last \x1b[2Jword\n")
                os._exit(7)
            case 7:
                raise KeyboardInterrupt
        return torch.zeros(episodes)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return torch.zeros(len(x), self.task.ways + 1), state


class Explorer(Method):
    """Logit k of its answer is 1 if the k-th thing that it tries succeeds."""

    def __init__(self, task: Task, hidden: str, open_file: str, port: int, parent: int) -> None:
        super().__init__(task)
        self.hidden, self.open_file, self.port, self.parent = Path(hidden), Path(open_file), port, parent

    def start(self, episodes: int) -> State:
        return torch.zeros(episodes)

    def observe(self, state: State, feedback: Feedback) -> State:
        return state

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        tries = [
            lambda: (self.hidden / "secret").read_text(),
            lambda: self.open_file.write_text("changed"),
            lambda: (self.open_file.parent / "new").write_text("new"),
            lambda: socket.create_connection(("127.0.0.1", self.port), 1).close(),
            lambda: os.kill(self.parent, 0),
            lambda: Path(f"/proc/{self.parent}/mem").open("rb").close(),
            lambda: os.environ["HARNESS_DATA"],
            lambda: os.environ["SECRET_TOKEN"],
            lambda: self._unmounts(),
            lambda: self.open_file.read_text(),  # this one is allowed
        ]
        return torch.tensor([[float(_works(each)) for each in tries]] * len(x)), state

    def _unmounts(self) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        libc.unshare(0x10000000 | 0x00020000)
        libc.umount2(str(self.hidden).encode(), 2)
        (self.hidden / "secret").read_text()


def _works(call: object) -> bool:
    try:
        call()
    except (OSError, KeyError):
        return False
    return True
