"""Kinds: every table knows all of them, and a further one is one module and one call."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from harness import cli
from harness.episodes.plan import plan_episodes
from harness.episodes.plans import PLANS
from harness.evaluation.evaluate import evaluate
from harness.evaluation.kinds import Kind, register, unregister
from harness.evaluation.score import SCORERS, curves, metrics
from harness.method.registry import build_method, load_method, task_for
from harness.protocol.json_schema import file_schema
from harness.protocol.load import load_protocol
from harness.protocol.models import KINDS, PROTOCOL, Protocol, kind_of
from harness.testing.tiny import tiny_source
from harness.yaml_files.source_location import YamlError
from tests.helpers.revisit import KIND

TEXT = """\
kind: revisit
title: Classes that come back
dataset: omniglot
stand_in: glyphs
episode: {ways: 4, shots: 3}
scoring: {test_episodes: 5}
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "back.yaml"
    path.write_text(TEXT)
    register(KIND)
    yield path
    unregister("revisit")


def test_every_table_has_all_kinds_under_their_names() -> None:
    assert list(KINDS) == list(PLANS) == list(SCORERS)
    assert all(kind_of(model) == name for name, model in KINDS.items())


@pytest.mark.slow
def test_a_seventh_kind_is_validated_described_and_shown(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Revisit" in file_schema()["$defs"]
    assert cli.main(["validate", str(file)]) == 0
    assert "ok: revisit, digest" in capsys.readouterr().out
    assert cli.main(["show", str(file), "--data", "stand-in", "--cache", str(file.parent)]) == 0
    shown = capsys.readouterr().out
    assert "An episode: 4 classes one after another, 3 steps each, and each once more." in shown
    assert "ranked by accuracy@return" in shown
    assert "\n15 " in shown
    assert "3-shot" in shown
    file.write_text(TEXT.replace("shots: 3", "shots: 0"))
    assert cli.main(["validate", str(file)]) == 2
    assert "back.yaml:5:" in capsys.readouterr().err


def test_a_seventh_kind_is_planned_and_scored_with_a_shipped_method(file: Path) -> None:
    protocol = load_protocol(file).protocol
    source = tiny_source(protocol)
    plan = plan_episodes(protocol, source.dataset.tables["test"], "test", 0, range(20))
    assert plan.target.shape == (20, 16)
    assert (plan.shot[:, -4:] == 3).all()
    assert (np.sort(plan.target[:, -4:], axis=1) == np.arange(4)).all()
    cls = load_method("chance").cls
    method = build_method(cls, task_for(cls, protocol, source.dataset.card.image_shape), {}, 0)
    scores = evaluate(method, source, protocol, "test", 50)
    found = metrics(protocol, scores)
    assert set(found) == {protocol.ranking, *protocol.reported}
    assert found["accuracy@return"][0] == pytest.approx(25)
    assert len(curves(protocol, scores)["by_step"]) == 16


def test_a_kind_without_words_is_refused_before_it_is_known() -> None:
    class Silent(Protocol):
        kind: Literal["silent"]

    with pytest.raises(TypeError, match="Silent does not define words"):
        register(Kind(Silent, KIND.plan, KIND.scorer))
    assert "silent" not in KINDS


def test_a_kind_that_was_taken_back_is_unknown_again(tmp_path: Path) -> None:
    register(KIND)
    with pytest.raises(ValueError, match="there is a kind 'revisit' already"):
        register(KIND)
    unregister("revisit")
    path = tmp_path / "back.yaml"
    path.write_text(TEXT)
    with pytest.raises(YamlError, match="revisit"):
        load_protocol(path)
    assert "revisit" not in {*KINDS, *PLANS, *SCORERS}


def test_a_changed_copy_of_a_protocol_has_a_digest_of_its_own() -> None:
    data = {
        "kind": "n_way_k_shot",
        "title": "x",
        "dataset": "omniglot",
        "episode": {"ways": 5, "shots": 1, "queries": 2},
    }
    protocol: Protocol = PROTOCOL.validate_python(data)
    before = protocol.digest
    assert protocol.model_copy(update={"dataset": "glyphs"}).digest != before
    assert (protocol.digest, protocol.model_copy().digest) == (before, before)
