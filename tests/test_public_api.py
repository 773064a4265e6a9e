"""The public Python API: what `import harness` offers, what it costs, and that it works as one run needs it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import harness

LIGHT = """
import sys, time
before = time.process_time()
import harness
spent = time.process_time() - before
print(spent, *(name for name in ("torch", "numpy", "pandas", "pydantic", "yaml") if name in sys.modules))
"""


def test_importing_the_package_is_fast_and_loads_nothing_heavy() -> None:
    """Under 50 ms of processor time, the best of three: other work on the machine makes any single one slow."""
    runs = [
        subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    ]
    assert all(heavy == [] for _, *heavy in runs)
    assert min(float(spent) for spent, *_ in runs) < 0.05


def test_every_public_name_is_listed_and_is_there() -> None:
    assert dir(harness) == sorted(harness.__all__)
    assert {*harness.__all__} == {*harness._HOME, "__version__"}
    for name in harness.__all__:
        assert getattr(harness, name) is not None
        assert name in vars(harness), f"{name} is looked up again on every use"


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    (checked,) = [node for node in ast.parse(Path(harness.__file__).read_text()).body if isinstance(node, ast.If)]
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
        harness.load_protocoll  # noqa: B018
    assert not hasattr(harness, "rollout")


def test_one_run_through_the_public_names(tmp_path: Path, cache: Path) -> None:
    request = harness.Request(
        "omniglot_5way_online", "copy_last", data="stand-in", test_episodes=4, cache=cache, out=tmp_path, device="cpu"
    )
    record = harness.run(harness.prepare(request), quiet=True)
    assert record.test_episodes == 4
    protocol = harness.for_data(harness.load_protocol("omniglot_5way_online"), "stand-in")
    assert record.digest == protocol.digest
    dataset = harness.load_dataset(protocol.dataset, cache=cache)
    source = harness.EpisodeSource(dataset, "cpu")
    cls = harness.load_method("copy_last").cls
    method = harness.build_method(cls, harness.task_for(cls, protocol, dataset.card.image_shape, None), {}, 0, "cpu")
    scores = harness.evaluate(method, source, protocol, "test", 4)
    mean, interval, episodes = harness.metrics(protocol, scores)["accuracy"]
    assert (mean, interval, episodes) == (
        record.metrics["accuracy"].mean,
        record.metrics["accuracy"].interval,
        4,
    )
