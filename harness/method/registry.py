"""Finding methods by name and building them: built-in ones, installed plugins, or `path/to/file.py:ClassName`."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from harness.method.built_in import built_in_class, built_in_methods
from harness.method.options import constructor_arguments
from harness.method.source import source_hash
from harness.method.user_file import check_file, import_file
from harness.util.errors import UserError, known_name, unknown
from harness.util.faults import place_in_users_code

if TYPE_CHECKING:
    import torch

    from harness.method.interface import Method, Task
    from harness.protocol.models import AnyProtocol

GROUP = "harness.methods"
"""Entry points of this group name methods of installed packages."""


@dataclass(frozen=True)
class LoadedMethod:
    """A method class with the name it is listed under and the target it came from ('module:Class').

    `file` is the file that the user named, for 'file.py:Class'.
    """

    name: str
    target: str
    cls: type[Method]
    file: Path | None = None

    @property
    def own_file(self) -> Path:
        """The file that the user named, or else the one that defines the class."""
        return self.file or Path(inspect.getfile(self.cls))

    @property
    def source_hash(self) -> str:
        """SHA-256 over its own file and those of its package (or folder) that it imports."""
        return source_hash(self.own_file, "" if self.file else self.cls.__module__)


def describe() -> dict[str, str]:
    """Name to one-line description of every method that can be found by name; imports none of them."""
    plugins = {point.name: f"plugin {point.value}" for point in entry_points(group=GROUP)}
    return dict(sorted({**plugins, **{name: line for name, (_, line) in built_in_methods().items()}}.items()))


def method_names() -> list[str]:
    """Every method that can be found by name."""
    return list(describe())


def load_method(name: str) -> LoadedMethod:
    """The class of a built-in name, a plugin's name, or 'path/to/file.py:ClassName'.

    Raises UserError for an unknown name, a file or class that is not there, or one that is not a Method.
    """
    check_name(name)
    name = known_name(name, built_in_methods()) or name
    if name in built_in_methods():
        target = built_in_methods()[name][0]
        return _checked(name, target, built_in_class(target))
    if file := _file_in(name):
        return _from_file(file, name.rpartition(":")[2])
    plugin = known_name(name, method_names())
    point = next(each for each in entry_points(group=GROUP) if each.name == plugin)
    return _checked(point.name, point.value, point.load())


def check_name(name: str) -> None:
    """Raises UserError for a name under which there is no method, or a file that is not there; imports nothing."""
    if known_name(name, built_in_methods()):
        return
    if file := _file_in(name):
        check_file(file)
    elif name.endswith(".py"):
        raise UserError(f"'{name}' names a file but no class; write {name}:ClassName")
    elif known_name(name, method_names()) is None:
        raise unknown("method", name, method_names())


def _file_in(name: str) -> Path | None:
    """The file of 'path/to/file.py:ClassName'; None for names of other forms."""
    file, colon, _ = name.rpartition(":")
    return Path(file).expanduser() if colon and file.endswith(".py") else None


def built_in(target: str) -> str | None:
    """The name of the built-in method of that target ('module:Class'); None if there is none."""
    return next((name for name, (known, _) in built_in_methods().items() if known == target), None)


def check_declared(cls: type[Method]) -> None:
    """Raises UserError for a class whose `kinds` are no kinds of protocols, or that does not take a task."""
    from harness.method.interface import CLASSES, MASKS

    first = next(iter(inspect.signature(cls).parameters.values()), None)
    if first is None or first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        raise UserError(f"{cls.__name__}.__init__ must take the task first: def __init__(self, task, ...)")

    all_kinds = (*CLASSES, *MASKS)
    if isinstance(cls.kinds, str) or not isinstance(cls.kinds, Collection):
        raise UserError(f"{cls.__name__}: kinds is {cls.kinds!r}; write a tuple, as in kinds = ('online_few_shot',)")
    if not cls.kinds:
        raise UserError(f"{cls.__name__}: kinds is empty: it would run on nothing; name some of {', '.join(all_kinds)}")
    for kind in cls.kinds:
        if kind not in all_kinds:
            raise UserError(f"{cls.__name__}: {unknown('kind of protocol', str(kind), all_kinds)}")


def check_kind(cls: type[Method], protocol: AnyProtocol) -> None:
    """Raises UserError if a method of this class does not run on protocols of this kind."""
    if protocol.task_kind not in cls.kinds:
        raise UserError(
            f"{cls.__name__} does not run on protocols of kind {protocol.kind}; it runs on {', '.join(cls.kinds)}"
        )


def task_for(cls: type[Method], protocol: AnyProtocol, image_shape: Sequence[int], classes: int | None = None) -> Task:
    """What a method of this class is told on this protocol; the label delay only if it declares the need.

    `image_shape` is (C, H, W); `classes` is the number of classes of the data set, all of which a supervised protocol
    asks for. Raises UserError if the method does not run on protocols of this kind.
    """
    check_kind(cls, protocol)
    channels, height, width = image_shape
    return task_of(protocol, (channels, height, width), classes, cls.needs_label_delay)


def task_of(
    protocol: AnyProtocol, image_shape: tuple[int, int, int], classes: int | None, with_label_delay: bool
) -> Task:
    """What there is to know of a protocol before its episodes begin, with or without its label delay."""
    from harness.method.interface import Task

    ways = classes if protocol.ways is None else protocol.ways
    assert ways is not None, "the protocol asks for all classes of its data set"
    return Task(ways, image_shape, protocol.task_kind, protocol.label_delay if with_label_delay else None, classes or 0)


BUILT_WITH = "_built_with"
"""The attribute of an instance that `build_method` has made which holds all its options."""


def build_method(
    cls: type[Method], task: Task, options: dict[str, Any], seed: int, device: torch.device | str = "cpu"
) -> Method:
    """A method with weights drawn from `seed` alone; global random state is left as it was.

    Raises UserError, naming the options, where the class cannot be built with them.
    """
    import torch

    settings = constructor_arguments(cls, options)
    given = ", ".join(f"{name}={value}" for name, value in options.items())
    named = f"{cls.__name__} with {given}" if given else cls.__name__
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        try:
            method = cls(task, **settings)
        except (ValueError, ArithmeticError) as error:
            raise UserError(f"{named} cannot be built: {error}{place_in_users_code(error)}") from None
        except RuntimeError as error:  # torch's word for sizes that no layer can have
            if "out of memory" in str(error).lower() or "allocate" in str(error).lower():
                raise
            said = (str(error).splitlines() or ["no message"])[0]
            raise UserError(f"{named} cannot be built: {said}{place_in_users_code(error)}") from error
    if "_modules" not in vars(method) or "task" not in vars(method):
        raise UserError(f"{cls.__name__}.__init__ must begin with super().__init__(task)")
    setattr(method, BUILT_WITH, settings)
    return method.to(device)


def _from_file(path: Path, attribute: str) -> LoadedMethod:
    module = import_file(path)
    if not hasattr(module, attribute):
        raise unknown(f"class in {path}", attribute, _methods_in(module))
    from harness.records.provenance import public

    return _checked(attribute, public(f"{path}:{attribute}"), getattr(module, attribute), path)


def _methods_in(module: ModuleType) -> list[str]:
    """The classes of a module's own that are methods; where there are none, all of its own classes."""
    from harness.method.interface import Method

    own = {name: each for name, each in vars(module).items() if inspect.isclass(each)}
    own = {name: each for name, each in own.items() if each.__module__ == module.__name__}
    return [name for name, each in own.items() if issubclass(each, Method)] or list(own)


def _checked(name: str, target: str, cls: Any, file: Path | None = None) -> LoadedMethod:
    from harness.method.interface import Method

    if not (inspect.isclass(cls) and issubclass(cls, Method)):
        raise UserError(f"{target} is not a method: it must be a class derived from harness.Method")
    check_declared(cls)
    return LoadedMethod(name, target, cls, file)
