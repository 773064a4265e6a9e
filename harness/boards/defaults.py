"""Default options of built-in methods, read from their source: nothing is run, so that boards stay quick."""

from __future__ import annotations

import ast
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any


@cache
def default_options(target: str) -> dict[str, Any]:
    """Option name to default of the class at 'module:ClassName', as JSON would hold it (lists for tuples).

    Only built-in methods are looked at, and of their defaults only plain values; {} for all else.
    """
    from methods import BUILT_IN

    if target not in {known for known, _ in BUILT_IN.values()}:
        return {}
    module, _, name = target.partition(":")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return {}
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                    return dict(_plain_defaults(part.args))
    return {}


def _plain_defaults(arguments: ast.arguments) -> Any:
    positional = [*arguments.posonlyargs, *arguments.args]
    with_default = positional[len(positional) - len(arguments.defaults) :]
    pairs = [*zip(with_default, arguments.defaults, strict=True)]
    pairs += [(name, value) for name, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value]
    for name, value in pairs:
        try:
            plain = ast.literal_eval(value)
        except ValueError:
            continue
        yield name.arg, list(plain) if isinstance(plain, tuple) else plain
