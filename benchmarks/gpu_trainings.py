"""What a GPU trains when one is lent (`gpu_day.py`), in order of what is to be had from it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Run:
    """One training: a protocol, a method, a seed, what is set on the command line besides, and the budget if it is
    another than the day's. `heavy` says that its weights do not come back; `after` is the label of the run from whose
    weights it begins, for which it waits."""

    protocol: str
    method: str
    extra: tuple[str, ...] = ()
    budget: str | None = None
    seed: int = 0
    heavy: bool = False
    after: str | None = None

    @property
    def label(self) -> str:
        words = (self.protocol, self.method, *filter(None, [self.budget]), f"s{self.seed}", *self.extra[1::2])
        words += () if self.after is None else ("from", self.after.split("-")[0])
        return "-".join(words).replace("=", "-")


TABLE_2 = (
    ("maml",),
    ("maml", "--set", "rate=global"),
    ("maml", "--set", "rate=layer"),
    ("norml", "--set", "zero_cell=true", "--set", "zero_hidden=true"),
    ("norml", "--set", "zero_cell=true"),
    ("norml", "--set", "zero_hidden=true"),
    ("norml",),
)
"""What NORML's second table compares."""

AT_ONE_SHOT = [Run("omniglot_20way_1shot", name, tuple(extra)) for name, *extra in TABLE_2]
AT_FIVE = [replace(each, protocol="omniglot_20way_5shot", after=each.label) for each in AT_ONE_SHOT]

OVER_FEATURES = ("bauer", "norml", "ppa", "deml", "csn", "snail")
"""Methods over one ResNet-12, which the first of them trains for all."""

HALF, THIRD = ("--set", "width=0.5"), ("--set", "width=0.35")
"""Widths of the nets with memory in the fifth table of layer-distributed memory."""

ONLINE = Run("cifarfs_5way_online", "cl_lstm")

TRAININGS = (
    *(Run("omniglot_5way_online", "cl_lstm", each, "full") for each in ((), ("--set", "labels=lstm"))),
    ONLINE,
    *(Run(f"cifarfs_{name}", "cl_lstm", after=ONLINE.label) for name in ("delay4", "delay5")),
    *(Run(f"cifarfs_{name}", "cl_lstm") for name in ("delay5", "delay4", "delay2")),
    *(Run("cifar100_supervised", "cl_resnet20", width) for width in (HALF, THIRD)),
    *(Run("cifar100_supervised", "cl_vgg11", width, heavy=True) for width in (HALF, THIRD)),
    Run("cifar100_supervised", "vgg11", heavy=True),
    Run("cifar100_supervised", "resnet20"),
    *(Run(f"miniimagenet_5way_{shots}shot", "maml") for shots in (1, 5)),
    *(Run(f"miniimagenet_5way_{shots}shot", "gidaris", heavy=True) for shots in (5, 1)),
    *(Run(f"miniimagenet_5way_{shots}shot", name) for shots in (5, 1) for name in OVER_FEATURES),
    *(Run("omniglot_5way_online", "cl_lstm", each) for each in ((), ("--set", "labels=lstm"))),
    *AT_ONE_SHOT,
    *AT_FIVE,
    Run("omniglot_5way_online", "lstm", budget="full"),
    Run("omniglot_5way_online", "ntm", budget="full"),
)
"""What no CPU reaches, first."""
