"""Figures outside of pages: one picture, well formed, with rules that reach nothing else, in which all is text."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from harness.report.forest import Interval, forest
from harness.report.lines import Series, lines
from harness.report.plot import Plot
from harness.report.run_log import Logged
from harness.report.training_figures import training_figures
from tests.helpers.pages import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"


def drawn(plot: Plot) -> str:
    return plot._repr_svg_()


def test_figures_stand_below_each_other_and_are_saved(tmp_path: Path) -> None:
    figures = [lines("c", "step", "loss", [Series("a", [0, 1], [1, 2]), Series("b", [0, 1], [2, 1])]),
               forest("f", "accuracy, %", [Interval("a", 40, (39, 41), "40 ± 1", False)])]  # fmt: skip
    plot = Plot("both", tuple(figures))
    plot.save(tmp_path / "plot.svg")
    root = fromstring((tmp_path / "plot.svg").read_text(encoding="utf-8"))
    assert root.tag == f"{SVG}svg"
    pictures = [each for each in root.findall(f"{SVG}svg") if each.attrib.get("role") == "img"]
    ends = [float(each.attrib["y"]) + float(each.attrib["height"]) for each in pictures]
    assert len(pictures) == 2
    assert ends[0] < float(pictures[1].attrib["y"])
    assert ends[1] < float(root.attrib["height"])


def test_its_rules_are_for_itself_alone() -> None:
    style = re.search("<style>(.*?)</style>", drawn(Plot("x", ())), re.DOTALL)
    assert style is not None
    selectors = re.findall(r"(?:^|\})\s*([^{}]+)\{", style[1])
    assert len(selectors) > 30
    assert all(each.strip().startswith(".harness-plot") for each in selectors)


def test_each_seed_has_its_line() -> None:
    log = [Logged("all", episodes, episodes, 3.0 - episodes, None) for episodes in (1.0, 2.0, 4.0)]
    loss, throughput = training_figures({"seed 0": log, "seed 1": log[:2]})
    assert loss.head == ["training episodes", "loss, seed 0", "loss, seed 1"]
    assert ">0</text>" in throughput.picture, "its axis begins at 0"
    assert throughput.head == ["training episodes", "episodes a second, seed 0"]
    assert [*training_figures({"": []})] == []


@pytest.mark.parametrize("text", HOSTILE)
def test_words_in_a_plot_are_text(text: str) -> None:
    plot = Plot(text, (lines(text, text, text, [Series(text, [0, 1], [0, 1])]),))
    found = [each.text for each in fromstring(drawn(plot)).iter() if each.text == text]
    assert len(found) > 3
