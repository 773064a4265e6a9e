"""Figures outside of a page: one picture that notebooks show and that can be saved as a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring, tostring

from harness.report.figure import Figure, Key
from harness.report.page import asset
from harness.report.svg import add, drawing
from harness.util.atomic_files import replacing
from harness.util.errors import UserError

_LINE, _GAP, _LETTER, _ROOM = 22, 26, 6.6, 720
"""Heights of a line of words and of what is left below a figure, width of a letter, and width for the keys."""

_MADE = "harness-plot"
"""The class of a saved plot's outermost element, by which it is known."""


@dataclass(frozen=True, repr=False)
class Plot:
    """Figures below each other, as pages have them. A notebook shows a plot that is the value of its last line."""

    title: str
    figures: tuple[Figure, ...]

    def __repr__(self) -> str:
        head = f"plot of {self.title}; a notebook shows it, .save('plot.svg') writes it"
        return "\n  ".join([head, *(each.caption for each in self.figures)])

    def _repr_svg_(self) -> str:
        return tostring(_drawn(self), encoding="unicode")

    def save(self, path: str | Path) -> None:
        """Writes the plot as an SVG file, which browsers, LaTeX (through Inkscape) and office programs take.

        Raises UserError if the name does not end in .svg, or if there is a file of that name that is no such plot.
        """
        path = Path(path)
        if path.suffix != ".svg":
            raise UserError(f"'{path}' must end in .svg: plots are saved as SVG")
        if path.is_file() and _MADE not in path.read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"{path} is no plot that was saved and is left as it is; choose another name")
        with replacing(path) as temporary:
            temporary.write_text(self._repr_svg_() + "\n", encoding="utf-8")


def _drawn(plot: Plot) -> Element:
    pictures = [fromstring(each.picture) for each in plot.figures]
    keys = [[*_lined(each.keys)] for each in plot.figures]
    width = max([_ROOM, *(float(each.attrib["width"]) for each in pictures)]) + 24
    heights = [float(each.attrib["height"]) + _LINE * (2 + len(own)) + _GAP
               for each, own in zip(pictures, keys, strict=True)]  # fmt: skip
    root = drawing(width, _LINE * 2 + sum(heights), plot.title)
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "class": _MADE}
    add(root, "style").text = _style()
    add(root, "rect", width=width, height="100%", class_="paper")
    add(root, "text", plot.title, x=12, y=_LINE, class_="title")
    top: float = 2 * _LINE
    for figure, picture, lines, height in zip(plot.figures, pictures, keys, heights, strict=True):
        add(root, "text", figure.caption, x=12, y=top + 10, class_="title")
        picture.attrib |= {"x": "12", "y": f"{top + _LINE:.1f}"}
        root.append(picture)
        below = top + _LINE + float(picture.attrib["height"])
        for number, line in enumerate(lines):
            for x, key in line:
                swatch = fromstring(key.swatch)
                swatch.attrib |= {"x": f"{12 + x:.1f}", "y": f"{below + _LINE * number + 4:.1f}"}
                root.append(swatch)
                text_at = 12 + x + float(swatch.attrib["width"]) + 6
                add(root, "text", key.text, x=text_at, y=below + _LINE * number + 15)
        top += height
    return root


def _lined(keys: Sequence[Key]) -> Iterator[list[tuple[float, Key]]]:
    """Keys in lines that fit below a figure, each with its distance from the left."""
    line: list[tuple[float, Key]] = []
    x = 0.0
    for key in keys:
        width = 60 + _LETTER * len(key.text)
        if line and x + width > _ROOM:
            yield line
            line, x = [], 0.0
        line.append((x, key))
        x += width
    if line:
        yield line


def _style() -> str:
    """The rules for figures and their light colours, for this picture alone: a notebook has others beside it."""
    colours = re.match(r":root\{([^}]*)\}", asset("style.css"))
    assert colours is not None
    rules = re.sub(r"(^|\})svg ", rf"\1.{_MADE} ", asset("figures.css"), flags=re.MULTILINE)
    rules = re.sub(r"(^|\})\.s(?=\d)", rf"\1.{_MADE} .s", rules, flags=re.MULTILINE)
    own = f".{_MADE} .paper{{fill:var(--card)}}.{_MADE} .title{{font-weight:600}}"
    return f".{_MADE}{{{colours[1]}}}\n{rules}{own}"
