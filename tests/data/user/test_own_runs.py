"""A user's own image folder runs through protocols with nothing but YAML files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from harness import cli
from harness.records.record import Record
from harness.util.shipped_files import protocol_files
from tests.helpers.own_images import BIRDS, image_folder

pytestmark = pytest.mark.slow

BIRDS_YAML = """\
dataset:
  name: garden_birds
  folder: photos/birds
  size: 28
  classes: {train: [robin, wren, kite], validation: [owl, rook, crow], test: [jay, tit, lark]}
stand_in: objects
scoring: {test_episodes: 5}
"""
KINDS = {
    "online": "kind: online_few_shot\nepisode: {ways: 3, presentations: 3}\nscoring: {shots: [1, 2]}\n",
    "late": "kind: delayed_label\nepisode: {ways: 3, presentations: 3, label_delay: 2}\nscoring: {shots: [1, 2]}\n",
    "few_shot": "kind: n_way_k_shot\nepisode: {ways: 3, shots: 1, queries: 2}\n",
}
PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    image_folder(tmp_path / "photos/birds")


def ran(name: str, *words: str) -> Record:
    """The record of a smoke run of a protocol file in the working directory."""
    assert cli.main(["run", f"{name}.yaml", "--budget", "smoke", "--cache", "cache", "--threads", "1", *words]) == 0
    assert len(Path(f"leaderboards/{name}.jsonl").read_text().splitlines()) == 1
    (record,) = Path("runs", name).glob("*/record.json")
    return Record.model_validate_json(record.read_text())


@pytest.mark.parametrize("name", KINDS)
def test_an_image_folder_runs_through_a_protocol_of_any_kind(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("birds.yaml").write_text(BIRDS_YAML)
    Path(f"{name}.yaml").write_text(f"extends: birds.yaml\ntitle: Birds, {name}\n{KINDS[name]}")
    record = ran(name, "--method", "opn")
    assert (record.data.name, record.data.stand_in, record.train_episodes) == ("garden_birds", False, 8)
    assert record.data.source == "the user's own, an image folder"
    assert ", data garden_birds, " in capsys.readouterr().out
    assert cli.main(["validate", f"{name}.yaml"]) == 0
    assert "on garden_birds, " in capsys.readouterr().out


def test_the_folder_may_lie_under_the_data_root(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos").rename(tmp_path / "elsewhere/photos")
    Path("birds.yaml").write_text(BIRDS_YAML)
    Path("online.yaml").write_text(f"extends: birds.yaml\ntitle: Birds\n{KINDS['online']}")
    words = ["export", "online.yaml", "--out", "online.jsonl", "--episodes", "2", "--cache", "cache"]
    assert cli.main(words) == 2
    assert cli.main([*words, "--data-root", "elsewhere"]) == 0
    rows = [json.loads(line) for line in Path("online.jsonl").read_text().splitlines()]
    assert {row["class_name"] for row in rows} == {"jay", "tit", "lark"}
    assert all(row["image_id"].startswith(f"{row['class_name']}/") for row in rows)


def test_a_split_that_the_data_lack_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("birds.yaml").write_text(BIRDS_YAML.replace("validation: [owl, rook, crow], ", ""))
    Path("online.yaml").write_text(f"extends: birds.yaml\ntitle: Birds\n{KINDS['online']}")
    for words in (["show", "online.yaml"], ["export", "online.yaml", "--out", "online.jsonl"]):
        assert cli.main([*words, "--split", "validation", "--cache", "cache"]) == 2
        assert "'garden_birds' has no validation split; it has train, test" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("validation", "marks", "said"),
    [
        ("[owl, rook]", ["validated in fewer ways"], "validation in fewer ways, as the validation split has 2 classes"),
        ("[owl]", ["not validated"], "no validation (the validation split has 1 class): the last weights are kept"),
    ],
)
def test_with_few_validation_classes_it_trains_and_the_row_says_so(
    validation: str, marks: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("birds.yaml").write_text(BIRDS_YAML.replace("[owl, rook, crow]", validation))
    Path("few_shot.yaml").write_text(f"extends: birds.yaml\ntitle: Birds\n{KINDS['few_shot']}")
    assert ran("few_shot", "--method", "opn").marks == marks
    assert said in capsys.readouterr().err


def test_a_protocol_that_the_folder_cannot_hold_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos/birds/tit/0.png").unlink()
    (tmp_path / "photos/birds/tit/1.png").unlink()
    Path("birds.yaml").write_text(BIRDS_YAML)
    Path("online.yaml").write_text(f"extends: birds.yaml\ntitle: Birds\n{KINDS['online']}")
    assert cli.main(["run", "online.yaml", "--method", "opn", "--budget", "smoke", "--cache", "cache"]) == 2
    said = "episode.presentations: 3 images of a class in an episode, but class 'tit' of garden_birds (test) has 2"
    assert said in capsys.readouterr().err
    assert not Path("runs").exists()


def test_the_example_on_the_page_of_data_runs(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(# garden_online\.yaml\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    Path("garden_online.yaml").write_text(block)
    image_folder(tmp_path / "photos/birds", (*BIRDS, "dodo"), images=6)
    assert ran("garden_online", "--method", "count", "--test-episodes", "3").data.name == "garden_birds"
    assert "garden_online" not in protocol_files()
