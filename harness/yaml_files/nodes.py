"""From YAML text to plain data, with the place of every key and value.

PyYAML only splits the text into nodes here; values are built by this module, so that nothing in a file can run code,
keys given twice are refused, and words that YAML readers disagree on are refused (`harness.yaml_files.scalars`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.resolver import BaseResolver

from harness.yaml_files.scalars import Trap, scalar
from harness.yaml_files.source_location import Loc, Place, Problem, YamlError, problem_at

MOST_VALUES = 50_000
"""Values of a file after aliases are expanded; a few nested aliases can stand for billions."""

MOST_DEPTH = 100
"""Lists and mappings within each other, aliases expanded."""

PARSERS: tuple[Any, ...] = tuple(getattr(yaml, name) for name in ("CBaseLoader", "BaseLoader") if hasattr(yaml, name))
"""What splits a text into events: libyaml where PyYAML was built with it (many times faster), and PyYAML itself.

The last one has the last word: its are the errors that are shown, the same on every machine.
"""

_DISPUTED = re.compile(r"[\t?\ufeff]|[|>][-+0-9]*#|:\s*[,\]}]")
"""What libyaml takes where PyYAML does not, or places elsewhere: a text that holds it is read by the last parser."""


class Builder:
    """Builds plain data from the nodes of one file; notes where everything stands and what is wrong."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.keys: dict[Loc, Place] = {}
        self.values: dict[Loc, Place] = {}
        self._built = 0
        self._open: set[int] = set()

    def data_of(self, text: str) -> Any:
        """The data of a YAML text whose top is a mapping; YamlError where there is none."""
        try:
            node, refused = _nodes(text)
            root = self._mapping_of(node)
            self.problems += [problem_at(self._place(mark), message) for mark, message in refused]
            return self._build(root, ())
        except yaml.reader.ReaderError as error:
            raise YamlError(self._unprintable(text, error)) from None
        except yaml.MarkedYAMLError as error:
            raise YamlError(self._syntax(error)) from None
        except _TooDeep as error:
            raise YamlError(problem_at(self._place(error.mark), str(error))) from None

    def _mapping_of(self, root: yaml.Node | None) -> yaml.MappingNode:
        if isinstance(root, yaml.MappingNode):
            return root
        if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
            raise YamlError(problem_at(Place(self.path, 1, 1), "the file is empty"))
        found = "a list" if isinstance(root, yaml.SequenceNode) else "text"
        message = f"the file must be a mapping (lines of 'key: value'), found {found}"
        raise YamlError(problem_at(self._place(root.start_mark), message))

    def _build(self, node: yaml.Node, loc: Loc) -> Any:
        self._built += 1
        if self._built > MOST_VALUES:
            message = f"holds more than {MOST_VALUES} values once its aliases (*name) are expanded"
            raise YamlError(problem_at(self._place(node.start_mark), message))
        if id(node) in self._open:
            raise YamlError(
                problem_at(self._place(node.start_mark), "an alias stands for something that holds it", loc)
            )
        if len(self._open) > MOST_DEPTH:
            raise _TooDeep(node.start_mark)
        self._open.add(id(node))
        value: Any
        if isinstance(node, yaml.MappingNode):
            value = self._mapping(node, loc)
        elif isinstance(node, yaml.SequenceNode):
            value = [self._build(item, (*loc, i)) for i, item in enumerate(node.value)]
        else:
            assert isinstance(node, yaml.ScalarNode)
            value = self._scalar(node, loc)
        self._open.discard(id(node))
        self.values[loc] = self._place(node.start_mark)
        return value

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        first: dict[str, int] = {}
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        # Merged mappings first, so that the places noted last are those of the mapping's own keys.
        for key_node, value_node in sorted(node.value, key=lambda pair: not _is_merge(pair[0])):
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(key_node, "a key must be text, found a list or mapping", loc)
                continue
            self._refuse_halves(key_node)
            key, here = key_node.value, (*loc, key_node.value)
            if key in first:
                self._note(key_node, f"the key is given twice; it was first given on line {first[key]}", here)
                continue
            first[key] = key_node.start_mark.line + 1
            if _is_merge(key_node):
                merged = self._merged(value_node, loc)
                continue
            self.keys[here] = self._place(key_node.start_mark)
            own[key] = self._build(value_node, here)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, loc: Loc) -> dict[str, Any]:
        """What a `<<` key brings in: a mapping, or a list of mappings of which the first is the strongest."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        data: dict[str, Any] = {}
        for source in reversed(sources):
            if isinstance(source, yaml.MappingNode):
                data |= self._build(source, loc)
            else:
                self._note(source, "'<<' takes an alias (*name) of a mapping, or a list of them", (*loc, "<<"))
        return data

    def _scalar(self, node: yaml.ScalarNode, loc: Loc) -> Any:
        self._refuse_halves(node)
        if node.style:
            return node.value
        try:
            return scalar(node.value)
        except Trap as trap:
            self._note(node, str(trap), loc)
            return node.value

    def _refuse_halves(self, node: yaml.ScalarNode) -> None:
        r"""An escape such as "\ud800" gives a string that no file, and no validator, can hold."""
        if any("\ud800" <= letter <= "\udfff" for letter in node.value):
            message = r"holds half of a character (an escape from \ud800 to \udfff)"
            raise YamlError(problem_at(self._place(node.start_mark), message))

    def _note(self, node: yaml.Node, message: str, loc: Loc) -> None:
        problem = problem_at(self._place(node.start_mark), message, loc)
        # A node with several aliases is built several times.
        if problem not in self.problems:
            self.problems.append(problem)

    def _place(self, mark: Any) -> Place:
        return Place(self.path, mark.line + 1, mark.column + 1)

    def _syntax(self, error: yaml.MarkedYAMLError) -> Problem:
        """PyYAML's complaint in plain words, with the line where the unfinished thing began."""
        mark, began = error.problem_mark or error.context_mark, error.context_mark
        said = f"{error.context or ''} {error.problem or ''}".strip()
        message = next((re.sub(f".*{old}.*", new, said) for old, new in _PLAIN_WORDS if re.search(old, said)), said)
        if began is not None and mark is not None and began.line != mark.line:
            message += f" (in what begins on line {began.line + 1})"
        place = self._place(mark) if mark is not None else Place(self.path)
        return problem_at(place, f"not valid YAML: {message}")

    def _unprintable(self, text: str, error: yaml.reader.ReaderError) -> Problem:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return problem_at(
            Place(self.path, line, column), f"the character U+{ord(text[len(before)]):04X} is not allowed"
        )


def _nodes(text: str) -> tuple[yaml.Node | None, list[tuple[Any, str]]]:
    """The top node of a text, and what of it is refused, with its mark; the errors of the last parser."""
    *fast, last = PARSERS
    for parser in fast if not _DISPUTED.search(text) else ():
        try:
            return _composed(text, parser)
        except yaml.YAMLError:
            continue
    return _composed(text, last)


def _composed(text: str, parser: Any) -> tuple[yaml.Node | None, list[tuple[Any, str]]]:
    composer = _Composer(parser(text))
    return composer.get_single_node(), composer.refused


class _TooDeep(Exception):
    """More levels than MOST_DEPTH; `mark` is where that was seen."""

    def __init__(self, mark: Any) -> None:
        super().__init__(f"nested too deeply: more than {MOST_DEPTH} lists and mappings within each other")
        self.mark = mark


class _Composer(Composer, BaseResolver):
    """PyYAML from a parser's events to nodes, without its guessing of types; explicit tags are noted."""

    def __init__(self, parser: Any) -> None:
        Composer.__init__(self)
        BaseResolver.__init__(self)
        self.check_event, self.peek_event, self.get_event = parser.check_event, parser.peek_event, parser.get_event
        self.refused: list[tuple[Any, str]] = []
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        tag = getattr(event, "tag", None)
        if tag is not None:
            name = tag.replace("tag:yaml.org,2002:", "!!")
            self.refused.append((event.start_mark, f"tags are not allowed, found {name}; write the value alone"))
        if self._depth > MOST_DEPTH:
            raise _TooDeep(event.start_mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_PLAIN_WORDS = (
    (r"found character '\\t'", "a tab cannot indent YAML; use spaces"),
    (r"found character '([^']+)' that cannot start", r"text that begins with \1 must be quoted"),
    (
        r"mapping values are not allowed here",
        "a ':' is not expected here; text with ': ' in it must be quoted",
    ),
    (r"could not find expected ':'", "a key without ':'"),
    (r"expected ',' or '([]}])'", r"a ',' or the closing \1 is missing"),
    (r"expected <block end>", "this does not line up with the lines above; check the indentation"),
    (r"found unexpected end of stream", "a quotation has no closing quote"),
    (r"found undefined alias '?([^']*)'?", r"the alias *\1 has no anchor &\1 before it"),
    (r"but found another document", "a second document begins here ('---'); a file holds one"),
)


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.value == "<<" and not key.style
