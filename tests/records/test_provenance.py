"""What a record tells of the machine and the command that made it, and what it keeps to itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.records import provenance
from harness.records.provenance import public, public_command


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("harness run x --method opn --set tokens=4", "harness run x --method opn --set tokens=4"),
        ("run hf_abcdefghijklmnopqrstuvwx", "run ***"),
        ("run ghp_0123456789abcdefghij -x", "run *** -x"),
        ("run --token 0123456789abc --seed 1", "run --token *** --seed 1"),
        ("run HF_TOKEN=0123456789abc", "run HF_TOKEN=***"),
        ("run https://me:secret@host/data", "run https://***@host/data"),
    ],
)
def test_tokens_and_passwords_are_left_out(text: str, wanted: str) -> None:
    assert public(text) == wanted


def test_the_home_folder_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))
    assert public("harness run /home/ada/p.yaml --out '/home/ada/my runs'") == "harness run ~/p.yaml --out '~/my runs'"
    assert public("/home/adam/p.yaml") == "/home/adam/p.yaml"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "harness run p.yaml --method opn --run /scratch/me/r --no-board --data-root=/data --resume --set a=1",
            "harness run p.yaml --method opn --set a=1",
        ),
        (
            "torchrun --nproc-per-node 2 -m harness run 'my p.yaml' --out '/my runs' --boards b --cache c --fresh",
            "torchrun --nproc-per-node 2 -m harness run 'my p.yaml'",
        ),
        ("harness run p.yaml --method opn --run", "harness run p.yaml --method opn"),
        (
            "harness.run('p', 'opn', options={'a': 1}, data_root='/d', out='/x', board=False, log=['mlflow'])",
            "harness.run('p', 'opn', options={'a': 1}, log=['mlflow'])",
        ),
        (
            "harness.run('p', Mine, out='/x')  # Mine was defined in a session; its source is in m.py",
            "harness.run('p', Mine)  # Mine was defined in a session; its source is in m.py",
        ),
        ("harness.run({'title': 'é  # b'}, 'opn', out='/x')  # c", "harness.run({'title': 'é  # b'}, 'opn')  # c"),
    ],
)
def test_a_command_says_what_is_run_and_not_where(text: str, wanted: str) -> None:
    assert public_command(text) == wanted


@pytest.mark.parametrize(
    ("limits", "words", "keywords"),
    [
        (None, "--time=1s --set a=1", "seconds=1.0, options={'a': 1}"),
        ("", "--set a=1", "options={'a': 1}"),
        ("episodes=24", "--set a=1 --episodes 24", "options={'a': 1}, episodes=24"),
        ("episodes=24 time=1.5s", "--set a=1 --episodes 24 --time 1.5s", "options={'a': 1}, episodes=24, seconds=1.5"),
    ],
)
def test_limits_that_ended_a_run_take_the_place_of_those_given_last(
    limits: str | None, words: str, keywords: str
) -> None:
    assert public_command("harness run p.yaml --time=1s --resume --set a=1", limits) == f"harness run p.yaml {words}"
    call = "harness.run('p', 'opn', seconds=1.0, options={'a': 1}, board=False)"
    assert public_command(call, limits) == f"harness.run('p', 'opn', {keywords})"


def test_a_checkout_is_changed_where_its_code_is(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    for name in ("harness/a.py", "methods/a.py", "protocols/a.yaml", "docs/a.md", "leaderboards/a.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("1\n")
    (tmp_path / "pyproject.toml").write_text("1\n")
    assert provenance.code(tmp_path).dirty is None
    git("init", "--quiet")
    git("add", "-A")
    git("commit", "--quiet", "-m", "one")
    assert provenance.code(tmp_path).dirty is False
    (tmp_path / "docs" / "a.md").write_text("2\n")
    (tmp_path / "leaderboards" / "b.jsonl").write_text("2\n")
    assert provenance.code(tmp_path).dirty is False
    (tmp_path / "methods" / "b.py").write_text("2\n")
    assert provenance.code(tmp_path).dirty is True
