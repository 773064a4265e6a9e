"""Checkpoints are whole or not there, and say what is wrong with them."""

from __future__ import annotations

import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.util.errors import UserError
from harness.util.tensor_files import load_tensors, load_weights, save_tensors

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3), "c": torch.ones(4, 2).t()}


def test_tensors_and_header_come_back_as_they_were(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", TENSORS, {"n": 1.5, "deep": {"list": [1, None]}})
    tensors, header = load_tensors(tmp_path / "x.safetensors")
    assert header == {"n": 1.5, "deep": {"list": [1, None]}}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor)
        assert tensors[name].dtype == tensor.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"a": 1})])
def test_a_file_that_is_no_checkpoint_is_named_and_never_unpickled(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.safetensors is damaged or not a checkpoint"):
        load_tensors(path)


def test_a_cut_off_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, {})
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="damaged"):
        load_tensors(path)


WRITER = """
import resource, sys, torch
from pathlib import Path
from harness.util.tensor_files import save_tensors
from harness.util.errors import RunError
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    save_tensors(Path(sys.argv[1]), {"a": torch.zeros(100_000)}, {})
except RunError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_disk_that_is_full_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    assert resource.RLIMIT_FSIZE is not None
    path = tmp_path / "x.safetensors"
    save_tensors(path, TENSORS, {})
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert "could not be written" in done.stdout, done.stderr
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["x.safetensors"]


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    with pytest.raises(UserError, match=r"weight is \(2, 4\) there and \(2, 3\) here"):
        load_weights(net, torch.nn.Linear(4, 2).state_dict(), tmp_path)
    with pytest.raises(UserError, match="missing there: bias"):
        load_weights(net, torch.nn.Linear(3, 2, bias=False).state_dict(), tmp_path)


def test_of_many_weights_that_do_not_fit_the_first_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    small, large = torch.nn.Linear(3, 2, bias=False), torch.nn.Sequential(*[torch.nn.Linear(3, 2) for _ in range(3)])
    with pytest.raises(UserError, match=r"missing there: 0.bias, 0.weight, 1.bias, 1.weight and 2 more; unknown here"):
        load_weights(large, small.state_dict(), tmp_path)
    wide = torch.nn.Sequential(*[torch.nn.Linear(4, 2, bias=False) for _ in range(6)])
    narrow = torch.nn.Sequential(*[torch.nn.Linear(3, 2, bias=False) for _ in range(6)])
    with pytest.raises(UserError, match=r"3.weight is \(2, 4\) there and \(2, 3\) here; and 2 more\)"):
        load_weights(narrow, wide.state_dict(), tmp_path)
