"""Every command on consoles that lack characters: cp1252 (a redirect on Windows) and ASCII. Never a traceback.

Titles, classes, files and notes here hold what neither encoding has, and file names that are not even UTF-8. Some also
hold escapes that would steer a terminal: none is ever written (S10 in docs/scoring.md).
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from harness import cli
from tests.helpers.commands import CODES
from tests.helpers.own_images import picture

pytestmark = pytest.mark.slow

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "犬", "Łódź", "naïve\x1b[7m")
PROTOCOL = """\
kind: online_few_shot
title: "犬 と Łódź \\e[31m\\x9b2J"
notes: "→ \u202e \\e]0;owned\\a"
dataset:
  name: own_x
  folder: photos
  size: 16
  classes: {train: [ant, bee, cat], validation: [dog, eel, fox], test: [犬, Łódź, "naïve\\e[7m"]}
stand_in: glyphs
episode: {ways: 3, presentations: 3}
scoring: {shots: [1, 2], test_episodes: 4}
published: [{method: "猫\\e[5m", source: "Müller ½ \\x07\\u2028", metrics: {accuracy: 50.0}}]
"""
METHOD = '''\
"""Ответ наугад."""
from harness.method.interface import Method


class Ответ(Method):
    """犬 \\x1b[31m"""

    kinds = ("online_few_shot",)

    def __init__(self, task, *, größe: int = 1) -> None:
        super().__init__(task)

    def start(self, episodes):
        raise ValueError("犬 bellt \\x1b[31m")
'''
SWEEP = """\
title: "犬 → Łódź \\e[31m"
budgets: [smoke]
seeds: 0-1
runs: [{protocols: [犬.yaml], methods: [majority]}]
"""
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
SURROGATE = os.fsdecode(b"caf\xe9.png")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a protocol, its images, a method, and a finished run of it on a board."""
    folder = tmp_path_factory.mktemp("consoles")
    for number, name in enumerate(CLASSES):
        (folder / "photos" / name).mkdir(parents=True)
        for image in range(4):
            picture(10 * number + image).save(folder / "photos" / name / f"{image}.png")
    (folder / "photos/ant/0.png").rename(folder / "photos/ant" / SURROGATE)
    (folder / "犬.yaml").write_text(PROTOCOL, encoding="utf-8")
    (folder / "bad.yaml").write_text(PROTOCOL.replace("ways: 3", "wäys: 犬"), encoding="utf-8")
    (folder / "missing.yaml").write_text(PROTOCOL.replace("犬, Łódź, ", "猫, Lodz, "), encoding="utf-8")
    (folder / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    (folder / "eigen.py").write_text(METHOD, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for method in ("majority", "count"):
            assert cli.main(["run", "犬.yaml", "--method", method, "--no-check", "--cache", "cache"]) == 0
    return folder


COMMANDS: list[tuple[int, list[str]]] = [
    (3, ["validate", "犬.yaml", "--strict", "--cache", "cache"]),
    (2, ["validate", "bad.yaml", "猫.yaml", SURROGATE]),
    (0, ["lint", "犬.yaml", "--cache", "cache"]),
    (0, ["lint", "犬.yaml", "--cache", "cache", "--json"]),
    (0, ["show", "犬.yaml", "--cache", "cache"]),
    (2, ["show", "missing.yaml", "--cache", "cache"]),
    (0, ["schema"]),
    (0, ["recipe", "犬.yaml", "--method", "opn"]),
    (2, ["recipe", "犬.yaml", "--method", "猫"]),
    (0, ["list"]),
    (0, ["list", "protocols", "--json"]),
    (0, ["export", "犬.yaml", "--out", "犬.jsonl", "--overwrite", "--cache", "cache"]),
    (2, ["export", "犬.yaml", "--out", "犬.txt", "--cache", "cache"]),
    (0, ["run", "犬.yaml", "--method", "majority", "--cache", "cache", "--no-board"]),
    (0, ["run", "犬.yaml", "--method", "majority", "--cache", "cache", "--no-check", "--show-board"]),
    (0, ["run", "犬.yaml", "--method", "majority", "--cache", "cache", "--dry-run"]),
    (2, ["run", "犬.yaml", "--method", "majority", "--cache", "cache", "--set", "größe=犬"]),
    (0, ["board", "犬.yaml"]),
    (0, ["board", "犬.yaml", "--json"]),
    (0, ["board"]),
    (2, ["compare", "犬.yaml", "majority", "count"]),
    (2, ["compare", "犬.yaml", "majority", "猫"]),
    (0, ["table", "norml table 2"]),
    (2, ["table", "表"]),
    (0, ["verify", "犬.yaml", "--list"]),
    (0, ["verify", "犬.yaml", "--in-process", "--cache", "cache"]),
    (2, ["submit", "runs/猫"]),
    (0, ["new-method", "neu", "--into", "ordner-犬-{encoding}"]),
    (2, ["new-method", "猫"]),
    (3, ["check", "eigen.py:Ответ", "--protocol", "犬.yaml"]),
    (0, ["sweep", "sweep.yaml", "--dry-run", "--cache", "cache"]),
    (2, ["sweep", "bad.yaml"]),
    (0, ["report", "犬.yaml", "--out", "seiten-犬-{encoding}"]),
    (2, ["view", "--port", "99999", "--runs", "猫"]),
    (0, ["completion", "bash"]),
    (2, ["--猫"]),
    (0, ["--help"]),
]


def test_every_command_is_tried() -> None:
    assert {words[0] for _, words in COMMANDS} >= cli.COMMANDS.keys()


class Console(io.TextIOWrapper):
    """A text stream of one encoding over bytes in memory."""

    def __init__(self, encoding: str) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding, write_through=True)

    def close(self) -> None:
        """Left open, so that what was written can be read."""


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize(
    ("code", "words"), COMMANDS, ids=lambda value: " ".join(value) if isinstance(value, list) else str(value)
)
def test_a_command_writes_what_the_console_lacks_as_escapes(
    encoding: str, code: int, words: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    out, err = Console(encoding), Console(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    found = cli.main([each.format(encoding=encoding) for each in words])
    text = (out.bytes.getvalue() + err.bytes.getvalue()).decode(encoding)
    assert found == code, text
    assert "Traceback" not in text
    assert not STEERING.search(text), repr(text)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_in_a_process_of_its_own(encoding: str, locale: str, home: Path) -> None:
    """As the environment has it: the encoding of the console, and a locale in which file names are bytes."""
    environment = {
        **os.environ,
        "PYTHONIOENCODING": encoding,
        "LC_ALL": locale,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    for words, code in ((["validate", "犬.yaml"], 0), (["validate", "bad.yaml", SURROGATE], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "harness", *words], cwd=home, env=environment, capture_output=True, timeout=120
        )
        text = (done.stdout + done.stderr).decode(encoding)
        assert done.returncode == code, text
        assert done.returncode in CODES
        assert "Traceback" not in text


def test_what_is_written_as_several_characters_is_lined_up_and_wrapped_so(monkeypatch: pytest.MonkeyPatch) -> None:
    board = ["board", "cifarfs_delay5", "--boards", str(Path(__file__).parents[2] / "leaderboards")]
    monkeypatch.setenv("COLUMNS", "80")
    for words in (board, ["table", "layer-distributed memory 1"]):
        console = io.TextIOWrapper(io.BytesIO(), "ascii")
        monkeypatch.setattr(sys, "stdout", console)
        assert cli.main(words) == 0
        console.flush()
        lines = console.buffer.getvalue().decode("ascii").splitlines()
        assert max(map(len, lines)) <= 80
        assert any("+/-" in line for line in lines)
    blocks = [list(block) for filled, block in groupby(lines, key=bool) if filled]
    columns = [
        {line.rindex("|") for line in block if line.count(" | ") == 1} for block in blocks if "---" in "".join(block)
    ]
    assert len(columns) > 1
    assert all(len(each) == 1 for each in columns), "measured | published, below each other"
