"""The public Python API: what `import harness` offers, what it costs, and that it works as one run needs it."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import harness
from harness.evaluation.summary import of_metrics

LIGHT = """
import sys
before = {*sys.modules}
import harness
print(*({*sys.modules} - before))
"""
MINE = '''
from torch import Tensor, nn

from harness import Feedback, Method, State, Task


class Mine(Method):
    """Answers by a linear layer."""

    kinds = ("online_few_shot",)

    def __init__(self, task: Task, scale: float = 1.0) -> None:
        super().__init__(task)
        channels, height, width = task.image_shape
        self.layer = nn.Linear(channels * height * width, task.ways)
        self.scale = scale

    def start(self, episodes: int) -> State:
        return {"seen": self.layer.weight.new_zeros(episodes)}

    def observe(self, state: State, feedback: Feedback) -> State:
        return {"seen": state["seen"] + (feedback.target >= 0)}

    def predict(self, state: State, x: Tensor) -> tuple[Tensor, State]:
        return self.layer(x.flatten(1)) * self.scale, state


def main() -> None:
    import harness as h

    result = h.run("cifarfs_delay5", Mine, options={"scale": 2.0}, data="stand-in")
    print(result.metrics["accuracy"].mean, h.check(Mine).passed, result.to_pandas().shape)
    for batch in h.episodes("cifarfs_delay5", "train", batch=4):
        print(batch.x.shape)
'''


def test_importing_the_package_loads_nothing_else() -> None:
    """Counted in modules, which do not depend on what else the machine does; 50 ms is enough for hundreds of them."""
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert [name for name in loaded if name.partition(".")[0] not in sys.stdlib_module_names] == ["harness"]
    assert len(loaded) < 40


@pytest.mark.slow
def test_a_users_method_passes_strict_types(tmp_path: Path) -> None:
    """Of everything that the harness offers, no name is untyped; a wrong use is an error.

    By the project's own configuration, which is strict: what mypy has cached of the harness is used.
    """
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "wrong.py").write_text("import harness as h\n\nh.run(3, 4)\nh.load_protocoll('x')\n")
    root = Path(harness.__file__).parents[1]
    assert tomllib.loads((root / "pyproject.toml").read_text())["tool"]["mypy"]["strict"] is True
    files = [str(tmp_path / name) for name in ("mine.py", "wrong.py")]
    done = subprocess.run([sys.executable, "-m", "mypy", *files], cwd=root, capture_output=True, text=True)
    assert "mine.py" not in done.stdout, done.stdout
    assert "Found 3 errors in 1 file" in done.stdout, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["check", "episodes", "sweep"])
def test_a_function_keeps_its_name_beside_a_package_of_that_name(name: str) -> None:
    """Whichever of the two is used first."""
    for first, second in ((f"import harness.{name}", ""), ("", f"import harness.{name}")):
        code = f"import harness; {first or 'harness.' + name}; {second or 'pass'}; print(callable(harness.{name}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "True\n", done.stderr
    assert import_module(f"harness.{name}") is sys.modules[f"harness.{name}"]


def test_every_public_name_is_listed_and_is_there() -> None:
    assert dir(harness) == sorted(harness.__all__)
    assert {*harness.__all__} == {*harness._HOME, "__version__"}
    for name in harness.__all__:
        assert getattr(harness, name) is not None
        assert name in vars(harness), f"{name} is looked up again on every use"


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    branches = [node for node in ast.parse(Path(harness.__file__).read_text()).body if isinstance(node, ast.If)]
    (checked,) = [node for node in branches if isinstance(node.test, ast.Name)]
    seen = {
        alias.name: node.module
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name != "testing"
    }
    assert seen == {name: f"harness.{home}" for name, home in harness._HOME.items() if name != "testing"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'harness' has no attribute 'load_protocoll'"):
        getattr(harness, "load_protocoll")  # noqa: B009 (type checkers find the plain form)
    assert not hasattr(harness, "rollout")


def test_one_run_through_the_public_names(tmp_path: Path, cache: Path) -> None:
    """In one call, and step by step."""
    result = harness.run(
        "omniglot_5way_online",
        "copy_last",
        data="stand-in",
        test_episodes=4,
        cache=cache,
        out=tmp_path,
        device="cpu",
        board=False,
        quiet=True,
    )
    protocol = harness.for_data(harness.load_protocol("omniglot_5way_online"), "stand-in")
    assert result.record.digest == protocol.digest
    stream = harness.episodes("omniglot_5way_online", "test", data="stand-in", cache=cache)
    assert stream[0].x.shape[2:] == (1, 28, 28)
    method = harness.build_method("copy_last", protocol)
    assert method.task == harness.task_for(type(method), "omniglot_5way_online", data="stand-in")
    scores = harness.evaluate(method, protocol, episodes=4, cache=cache)
    assert scores == of_metrics(result.record.metrics)
    assert result.metrics["accuracy"].mean == scores["accuracy"].mean
