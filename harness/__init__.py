"""A declarative episode-protocol benchmark harness.

Authors of methods need three names: `from harness import Method, Feedback, Task`.
They are loaded on first use, so that `import harness` stays free of torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.method.interface import Feedback, Method, State, Task

__version__ = "0.1.0"
__all__ = ["Feedback", "Method", "State", "Task", "__version__"]


def __getattr__(name: str) -> Any:
    if name in {"Feedback", "Method", "State", "Task"}:
        from harness.method import interface

        return getattr(interface, name)
    raise AttributeError(f"module 'harness' has no attribute '{name}'")
