"""Protocols by name and path, inheritance with `extends`, and impossible protocols refused with line and numbers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from harness.protocol import load
from harness.protocol.load import for_data, inherited, load_protocol
from harness.protocol.models import DelayedLabel
from harness.util import shipped_files
from harness.util.errors import UserError
from harness.yaml_files.document import YamlError
from tests.helpers.commands import within_seconds
from tests.helpers.protocols import protocol_as

GOOD = """\
kind: delayed_label
title: a stream
dataset: cifar_fs
stand_in: objects
episode: {ways: 5, presentations: 10, label_delay: 3}
scoring: {shots: [6, 7], test_episodes: 100}
"""


def written(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(path: Path) -> list[str]:
    """Every problem of a file, without the folder."""
    with pytest.raises(YamlError) as caught:
        load_protocol(path)
    return [str(each).removeprefix(f"{path.parent}/") for each in caught.value.problems]


def test_a_protocol_is_named_after_its_file(tmp_path: Path) -> None:
    loaded = load_protocol(str(written(tmp_path, GOOD, "my_stream.yaml")))
    assert (loaded.name, loaded.path) == ("my_stream", tmp_path / "my_stream.yaml")
    assert loaded.protocol.kind == "delayed_label"


def test_shipped_names_need_no_path_and_an_existing_file_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_protocol("cifarfs_delay5").path == shipped_files.protocol_files()["cifarfs_delay5"]
    (tmp_path / "cifarfs_delay5").mkdir()
    assert load_protocol("cifarfs_delay5").protocol.title != "a stream", "a folder is not a protocol"
    (tmp_path / "cifarfs_delay5").rmdir()
    written(tmp_path, GOOD, "cifarfs_delay5")
    assert load_protocol("cifarfs_delay5").protocol.title == "a stream"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("cifarfs_dely5", "Did you mean 'cifarfs_delay5'?"),
        ("zzz", "there is no protocol 'zzz'. Give a file, or one of: "),
        ("mine.yml", "Did you mean 'mine.yaml'?"),
        ("nowhere/cifarfs_delay5.yaml", "The shipped protocol of that name is called 'cifarfs_delay5'."),
        (".", "'.' is a directory; name a protocol file. It has: mine.yaml."),
    ],
)
def test_an_unknown_protocol_is_named_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, GOOD, "mine.yaml")
    with pytest.raises(UserError) as caught:
        load_protocol(given)
    assert said in str(caught.value)


def test_extends_merges_mappings_and_replaces_everything_else(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "base/parent.yaml")
    child = written(
        tmp_path,
        "extends: base/parent.yaml\ntitle: mine\nepisode: {label_delay: 7}\nscoring: {shots: [8]}\n",
    )
    protocol = load_protocol(child).protocol
    assert protocol.model_dump(include={"title", "episode", "scoring", "stand_in"}) == {
        "title": "mine",
        "stand_in": "objects",
        "episode": {"ways": 5, "presentations": 10, "order": "balanced", "label_delay": 7},
        "scoring": {"shots": [8], "test_episodes": 100},
    }


def test_a_protocol_means_the_same_whether_inherited_or_written_out(tmp_path: Path) -> None:
    grandchild = "extends: child.yaml\nscoring: {test_episodes: 100}\n"
    written(tmp_path, GOOD, "parent.yaml")
    written(tmp_path, "extends: parent.yaml\nscoring: {test_episodes: 50}\n", "child.yaml")
    whole, composed = written(tmp_path, GOOD, "b.yaml"), written(tmp_path, grandchild)
    assert load_protocol(composed).protocol == load_protocol(whole).protocol
    assert load_protocol(composed).protocol.digest == load_protocol(whole).protocol.digest


def test_a_shipped_protocol_can_be_extended_by_name(tmp_path: Path) -> None:
    child = written(tmp_path, "extends: cifarfs_delay5\nepisode: {label_delay: 9}\n")
    assert protocol_as(DelayedLabel, child).episode.label_delay == 9


def test_an_inherited_problem_is_shown_where_it_stands(tmp_path: Path) -> None:
    written(tmp_path, GOOD.replace("presentations: 10", "presentations: 0").replace("a stream", "yes"), "base.yaml")
    child = written(tmp_path, "extends: base.yaml\nepisode:\n  ways: 0\n")
    assert refused(child) == [
        "a.yaml:3:9: episode.ways: found 0, expected a whole number of at least 1 (classes in an episode)",
        "base.yaml:2:8: title: some readers take yes for true, others for text; write true, or 'yes' in quotes",
        "base.yaml:5:35: episode.presentations: found 0, expected a whole number of at least 1 "
        "(how often each class is shown; an episode has ways x presentations steps) "
        f"(inherited by {child})",
    ]


@pytest.mark.parametrize(
    ("extends", "said"),
    [
        (
            "parnet.yaml",
            "there is no file '{0}/parnet.yaml' and no shipped protocol 'parnet.yaml'; did you mean 'parent.yaml'?",
        ),
        ("cifarfs_delay55", "did you mean 'cifarfs_delay5'?"),
        ("[parent.yaml]", "expected the name of one protocol file, as in 'extends: other.yaml'"),
        ("a.yaml", "the files extend each other in a circle: a.yaml -> a.yaml"),
        ("circle.yaml", "the files extend each other in a circle: a.yaml -> circle.yaml -> a.yaml"),
        ("unnamed/../a.yaml", "in a circle"),
    ],
)
def test_a_parent_that_cannot_be_taken_is_reported_at_extends(tmp_path: Path, extends: str, said: str) -> None:
    written(tmp_path, GOOD, "parent.yaml")
    written(tmp_path, "title: x\nextends: a.yaml\n", "circle.yaml")
    (tmp_path / "unnamed").mkdir()
    (problem,) = refused(written(tmp_path, f"title: x\nextends: {extends}\n"))
    assert problem.removeprefix(f"{tmp_path}/").startswith(("a.yaml:2:10: extends: ", "circle.yaml:2:10: extends: "))
    assert said.format(tmp_path) in problem


@pytest.mark.skipif(os.name != "posix", reason="no such files")
@pytest.mark.parametrize("how", ["itself", "extends"])
def test_a_file_without_an_end_is_refused(tmp_path: Path, how: str) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zeros.yaml").symlink_to("/dev/zero")
    for name in ("pipe.yaml", "zeros.yaml"):
        path = tmp_path / name if how == "itself" else written(tmp_path, f"extends: {name}\n", "child.yaml")
        with within_seconds(busy=5, idle=60), pytest.raises(UserError) as caught:
            load_protocol(path)
        assert name in str(caught.value)


def test_a_parent_that_is_not_yaml_is_reported_in_the_parent(tmp_path: Path) -> None:
    written(tmp_path, "a: [1\n", "parent.yaml")
    (problem,) = refused(written(tmp_path, "extends: parent.yaml\n"))
    assert "parent.yaml:2:1: not valid YAML" in problem


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "ways: 5",
            "ways: 21",
            [
                "5:17: episode.ways: 21 classes in an episode, but the test split of cifar_fs has 20",
            ],
        ),
        (
            "presentations: 10",
            "presentations: 601",
            [
                "5:35: episode.presentations: 601 images of a class in an episode, "
                "but the train split of cifar_fs has classes with 600"
            ],
        ),
        (
            "label_delay: 3",
            "label_delay: 0",
            [
                "5:52: episode.label_delay: found 0, expected a whole number of at least 2 "
                "(d: the label of step t is revealed before step t + d "
                "(d = 1 is kind online_few_shot))"
            ],
        ),
        (
            "label_delay: 3",
            "label_delay: 1",
            ["5:52: episode.label_delay: found 1, expected a whole number of at least 2"],
        ),
        (
            "shots: [6, 7]",
            "shots: [6, 10]",
            ["6:18: scoring.shots: 10-shot is scored at presentation 11 of a class, but the most there can be is 10"],
        ),
        ("shots: [6, 7]", "shots: [7, 6]", ["6:18: scoring.shots: shots must rise without repeats, as in [6, 7]"]),
        (
            "shots: [6, 7]",
            "shots: []",
            [
                "6:18: scoring.shots: found an empty list, expected a list of "
                "whole numbers of at least 0 with at least 1"
            ],
        ),
        (
            "kind: delayed_label",
            "kind: online_few_shot",
            [
                "5:39: episode.label_delay: unknown key. It belongs to kind "
                "delayed_label. Allowed here: ways, presentations, order"
            ],
        ),
        (
            "dataset: cifar_fs",
            "dataset: cifarfs",
            ["3:10: dataset: unknown data set 'cifarfs'. Did you mean 'cifar_fs'?"],
        ),
        ("title: a stream", "title: ' '", ["2:8: title: is empty; say in one line what the protocol is"]),
        ("stand_in: objects", "stand_in: omniglot", ["4:11: stand_in: unknown data set 'omniglot'"]),
        ("kind: delayed_label\n", "", ["1:1: kind: missing. Did you mean 'delayed_label'? Known: online_few_shot, "]),
    ],
)
def test_an_impossible_protocol_is_refused_with_line_and_numbers(
    tmp_path: Path, old: str, new: str, said: list[str]
) -> None:
    assert old in GOOD
    shown = refused(written(tmp_path, GOOD.replace(old, new)))
    assert len(shown) >= len(said)
    for line, expected in zip(shown, said, strict=False):
        assert line.startswith(f"a.yaml:{expected}")


def test_label_delay_may_exceed_the_episode(tmp_path: Path) -> None:
    late = written(tmp_path, GOOD.replace("label_delay: 3", "label_delay: 500"))
    assert protocol_as(DelayedLabel, late).episode.label_delay == 500


def test_the_stand_in_is_a_protocol_of_its_own(tmp_path: Path) -> None:
    loaded = load_protocol(written(tmp_path, GOOD))
    assert for_data(loaded, "real") is loaded.protocol
    stand_in = for_data(loaded, "stand-in")
    assert stand_in.dataset == "objects"
    assert stand_in.digest != loaded.protocol.digest


def test_a_stand_in_that_is_missing_or_too_small_is_refused(tmp_path: Path) -> None:
    without = load_protocol(written(tmp_path, GOOD.replace("stand_in: objects\n", "")))
    with pytest.raises(UserError, match="names no stand-in; write 'stand_in: NAME' into"):
        for_data(without, "stand-in")
    large = load_protocol(written(tmp_path, GOOD.replace("presentations: 10", "presentations: 100"), "b.yaml"))
    with pytest.raises(UserError, match="100 images of a class in an episode, but the train split of objects has"):
        for_data(large, "stand-in")


def test_shipped_files_are_found_from_an_installed_wheel(tmp_path: Path) -> None:
    """The layout of a wheel: packages side by side, protocols inside the package, no checkout around them."""
    site, root = tmp_path / "site", Path(harness.__file__).parent.parent
    shutil.copytree(root / "harness", site / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "protocols", site / "harness" / "shipped_files" / "protocols")
    (site / "methods" / "recipes").mkdir(parents=True)
    (site / "protocols").mkdir()  # another package's folder, which must not be taken for ours
    script = (
        "import harness.util.shipped_files as s, harness.protocol.load as l;"
        "print(s.protocols_dir(), s.recipes_dir(), l.load_protocol('cifarfs_delay2').protocol.label_delay, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(site)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        str(site / "harness" / "shipped_files" / "protocols"),
        str(site / "methods" / "recipes"),
        "2",
    ]


def test_the_wheel_is_made_to_carry_the_protocols_where_they_are_looked_for() -> None:
    import tomllib

    pyproject = Path(harness.__file__).parent.parent / "pyproject.toml"
    if not pyproject.is_file():
        pytest.skip("not a checkout")
    wheel = tomllib.loads(pyproject.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {name: f"harness/shipped_files/{name}" for name in ("protocols", "sweeps")}
    assert {"harness/**", "methods/**"} <= set(wheel["include"])


def test_reading_for_a_list_does_not_need_the_models() -> None:
    script = (
        "import sys, harness.protocol.load as l;l.inherited(l.find_protocol('cifarfs_delay2'));"
        "print('pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert inherited(load.find_protocol("cifarfs_delay2")).data["dataset"] == "cifar_fs"
