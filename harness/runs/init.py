"""The weights that a training begins from (`--init`), and what they had been through."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from harness.method.interface import Method
from harness.records.marks import TRAINED_ON
from harness.records.parts import MOST
from harness.records.record import Record
from harness.runs.build_record import FEATURES, FOREIGN, OF_ONE_RUN, OF_TRAINING, WHOLE, Before
from harness.runs.folder import RECORD, read_record
from harness.runs.resolve import weights_file
from harness.training.interface import training_hooks
from harness.util.errors import UserError
from harness.util.option_names import option, switch
from harness.util.progress import say
from harness.util.seeding import seeded
from harness.util.tensor_files import fits, load_tensors, load_weights, without_prefix


def load_init(method: Method, init: Path | None, target: str | None = None) -> Before:
    """Loads the weights that training begins from, and says what they had been through; UserError for damaged ones.

    Where they are those of another method than `target` (`MODULE:CLASS`; None: any) and do not fit this one, what both
    have is loaded alone, which is said: the net of its pretraining method, if that is the other one, or else features
    (`Features.shared`). Whatever else it has stays as it is.
    """
    if init is None:
        return Before()
    path = weights_file(init)
    tensors, header = load_tensors(path)
    if "progress" in header:  # it has neither the marks nor the number of episodes of what would begin from it
        raise UserError(
            f"{path} is what a training goes on from, not its outcome; end that run ({switch('resume')}, with "
            f"{option('episodes', 'N')} to cut it short) and name its folder"
        )
    identity = header.get("identity")
    named = identity if isinstance(identity, dict) else {}
    own = all(named.get(name) for name in ("protocol", "digest", "method", "target"))
    others = own and target not in (None, named["target"])
    part = None
    if others and not fits(method.state_dict(), tensors):
        part = _pretrained_in(tensors, method, named["target"]) or _features_in(tensors, method)
    if part is None:
        try:
            load_weights(method, tensors, path)
        except UserError as error:
            if not others:
                raise
            raise UserError(
                f"{error}. They are those of {named['method']}: of another method a backbone can be taken alone, and "
                "both must have one, with the same options; or its whole net, if it is this one's pretraining method"
            ) from None
    else:
        part.module.load_state_dict(part.tensors)
        say(f"{part.name}: those of {named['method']} on {named['protocol']}; all else begins fresh")
    # A class that was moved to another file is the same method.
    renamed = others and target is not None and named["target"].split(":")[-1] != target.split(":")[-1]
    of_another = [part.mark] if part else [WHOLE] if renamed else []
    marks = header.get("marks") if own else [FOREIGN]
    # Weights from before their header said so are asked of the record beside them.
    of_old = own and not {"marks", "devices"} <= header.keys() and (path.parent / RECORD).is_file()
    record = read_record(path.parent) if of_old else None
    if marks is None and record is not None:
        marks = [mark for mark in record.marks if mark in OF_TRAINING]
    episodes, marks = header.get("train_episodes", 0), [] if marks is None else marks
    if not isinstance(episodes, int) or not 0 <= episodes <= MOST:
        raise UserError(f"{path} is damaged: it does not say how long its weights were trained")
    known = isinstance(marks, list) and all(isinstance(each, str) for each in marks)
    marks = [each for each in marks if not each.startswith(OF_ONE_RUN)] if known else []
    if not known or not set(marks) <= set(OF_TRAINING):
        raise UserError(f"{path} is damaged: marks of how weights were trained are {', '.join(OF_TRAINING)}")
    devices = header.get("devices", _devices_of(record) if record else [])
    if not isinstance(devices, list) or not all(isinstance(each, str) and each.isprintable() for each in devices):
        raise UserError(f"{path} is damaged: it does not say what its weights were trained on")
    return Before(episodes, tuple(dict.fromkeys([*marks, *of_another])), tuple(devices))


def _devices_of(record: Record) -> list[str]:
    """What trained the weights of a run from before their header had devices."""
    named = [each.removeprefix(TRAINED_ON).split(" and ") for each in record.marks if each.startswith(TRAINED_ON)]
    if not named and record.train_updates:
        return [record.hardware.gpu or record.hardware.device]
    return named[0] if named else []


@dataclass(frozen=True)
class _Part:
    """A net that a method shares with another, that other's weights for it, what they are called and the mark of it."""

    module: nn.Module
    tensors: dict[str, Tensor]
    name: str
    mark: str


def _pretrained_in(tensors: dict[str, Tensor], method: Method, target: str) -> _Part | None:
    """The whole of the method's pretraining method, if the weights are of that class, for the same task and options."""
    found = seeded(lambda: training_hooks(method).pretraining_method(method.task), "init")
    if found is None or f"{type(found).__module__}:{type(found).__qualname__}" != target:
        return None
    return _Part(found, tensors, "weights", WHOLE) if fits(found.state_dict(), tensors) else None


def _features_in(tensors: dict[str, Tensor], method: Method) -> _Part | None:
    """The features that methods share, if this one has them and the weights of another have exactly one such net, under
    whatever name."""
    features = training_hooks(method).memoryless_features()
    if features is None or features.shared is None or not (own := features.shared.state_dict()):
        return None
    first = next(iter(own))
    prefixes = [name.removesuffix(f".{first}") for name in tensors if name.endswith(f".{first}")]
    found = [without_prefix(each, tensors) for each in prefixes]
    fitting = [each for each in found if fits(own, each)]
    return _Part(features.shared, fitting[0], "features", FEATURES) if len(fitting) == 1 else None
