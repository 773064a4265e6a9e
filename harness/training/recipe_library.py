"""What recipes share: named options, stages and budgets, curricula in one line, and files for families of data.

A recipe file may have, besides its parts,

- `options`, `stages` and `budgets`: mappings of named ones. A budget of a part is then a name or a mapping, in which
  `like: NAME` takes over a named one, key by key; likewise the stages of a budget, and its options by name. A named
  list of stages stands for all of them;
- `families`: files beside it whose parts follow its own, in this order. Its named things go over theirs.

A stage in which keys have lists (`episode: {ways: [2, 3, 5]}, episodes: [64000, 32000, 16000]`) stands for as many
stages, in whose names `{ways}` is replaced; `until: binding` ends each at the loss where labels are bound.

All of this is written out here, before a recipe is checked and hashed: what it means is all that counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from harness.training.curriculum import curriculum, with_until
from harness.training.recipe import BUDGETS
from harness.util.atomic_files import is_file
from harness.util.errors import nearest
from harness.yaml_files.document import Document
from harness.yaml_files.nodes import MOST_VALUES
from harness.yaml_files.placed import Placed, document_of, placed
from harness.yaml_files.source_location import Loc, Problem, YamlError, problem_at, shown

LIBRARY = ("options", "stages", "budgets")
FAMILIES = "families"
LIKE = "like"
MOST_STAGES = 10_000

Read = Callable[[Any], Document]
"""Reads a recipe file with what it extends."""


def written_out(document: Document, read: Read) -> Document:
    """The document with its parts, and those of its families, written out; what is wrong goes into its problems."""
    top = placed(document)
    problems = list(document.problems)
    odd = [(name, each) for name in LIBRARY if (each := top.get(name)) and not isinstance(each.data, dict)]
    if odd:  # whatever takes something over would only be reported as well
        found = [problem_at(each.value, f"expected a mapping of named {name}", (name,)) for name, each in odd]
        raise YamlError(*problems, *found)
    families = _families(top, read, problems)
    parts, taken = _parts(top, {}, problems)
    for tree in families:
        more, used = _parts(tree, {name: top.get(name) for name in LIBRARY}, problems)
        parts, taken = parts + more, taken | used
    own = top.get("parts")
    if own is not None or families:
        problems += _unused(top, document, taken)
    whole = top.without(*LIBRARY, FAMILIES)
    if own is None or isinstance(own.data, list):
        listed = [each for each in parts if each is not None]
        if listed or families:
            whole.data["parts"] = Placed(
                listed, own.value if own else top.data[FAMILIES].value, own.key if own else None
            )
    if whole.size > 4 * MOST_VALUES:
        message = f"holds more than {4 * MOST_VALUES} values once its named stages and budgets are written out"
        raise YamlError(*problems, problem_at(top.value, message))
    return document_of(document.path, whole, tuple(dict.fromkeys(problems)))


def _families(top: Placed, read: Read, problems: list[Problem]) -> list[Placed]:
    given = top.get(FAMILIES)
    if given is None:
        return []
    if not isinstance(given.data, list):
        problems.append(problem_at(given.value, "expected a list of recipe files", (FAMILIES,)))
        return []
    found = []
    for number, each in enumerate(given.data):
        loc = (FAMILIES, number)
        path = each.value.path.parent / str(each.data)
        if not isinstance(each.data, str) or not is_file(path):
            problems.append(problem_at(each.value, f"there is no file '{shown(path)}'", loc))
            continue
        document = read(path)
        tree = placed(document)
        problems += document.problems
        method, mine = tree.get("method"), top.get("method")
        if FAMILIES in tree.data:
            problems.append(problem_at(tree.data[FAMILIES].value, "a family cannot have families of its own", loc))
        elif method is not None and mine is not None and method.data != mine.data:
            message = f"this is a family of the recipe of '{mine.plain}', not of '{method.plain}'"
            problems.append(problem_at(method.value, message, ("method",)))
        else:
            found.append(tree)
    return found


def _parts(tree: Placed, over: dict[str, Placed | None], problems: list[Problem]) -> tuple[list[Placed], set[Any]]:
    """The parts of a file written out, and the names that they take over."""
    parts = tree.get("parts")
    if parts is None or not isinstance(parts.data, list):
        return [], set()
    library = _Library({name: _over(over.get(name), tree.get(name)) for name in LIBRARY}, problems)
    found = []
    for number, part in enumerate(parts.data):
        if isinstance(part.data, dict):
            budgets = {
                name: library.budget(part.data[name], ("parts", number, name)) for name in BUDGETS if name in part.data
            }
            part = replace(part, data=part.data | budgets)
        found.append(part)
    return found, library.taken


def _over(above: Placed | None, below: Placed | None) -> Placed | None:
    return above.over(below) if above and below else above or below


def _unused(top: Placed, document: Document, taken: set[Any]) -> list[Problem]:
    """Names of this very file that nothing takes over: a name misspelt, or a rest."""
    problems = []
    for kind in LIBRARY:
        named = top.get(kind)
        for name, each in named.data.items() if named and isinstance(named.data, dict) else ():
            if each.key is not None and each.key.path == document.path and (kind, name) not in taken:
                guess = nearest(name, [other for which, other in taken if which == kind])
                hint = f"; did you mean '{guess}'?" if guess else ""
                problems.append(problem_at(each.key, f"no part of this recipe takes this over{hint}", (kind, name)))
    return problems


@dataclass
class _Library:
    """The named things of a file, and which of them were taken over."""

    named: dict[str, Placed | None]
    problems: list[Problem]
    taken: set[tuple[str, str]] = field(default_factory=set)
    count: int = 0

    def budget(self, node: Placed, loc: Loc, chain: tuple[str, ...] = ()) -> Placed:
        """A budget with its options and stages written out, over the one that it is like."""
        if isinstance(node.data, str):
            named = self._named("budgets", node, loc, chain)
            return node if named is None else self.budget(named, ("budgets", node.data), (*chain, node.data))
        if not isinstance(node.data, dict):
            return node
        options, stages = node.get("options"), node.get("stages")
        own = dict(node.without(LIKE).data)
        if options is not None and isinstance(options.data, str):
            own["options"] = self._named("options", options, (*loc, "options"), ()) or options
        if stages is not None and isinstance(stages.data, list):
            listed = [
                stage
                for number, each in enumerate(stages.data)
                for stage in self.stages(each, (*loc, "stages", number))
            ]
            own["stages"] = replace(stages, data=listed)
        return self._like(replace(node, data=own), "budgets", node, loc, chain, self.budget)

    def stages(self, node: Placed, loc: Loc, chain: tuple[str, ...] = ()) -> list[Placed]:
        """The stages that an entry of a list of stages stands for."""
        if isinstance(node.data, str):
            named = self._named("stages", node, loc, chain)
            return [node] if named is None else self.stages(named, ("stages", node.data), (*chain, node.data))
        if isinstance(node.data, list):
            return [
                stage for number, each in enumerate(node.data) for stage in self.stages(each, (*loc, number), chain)
            ]
        if not isinstance(node.data, dict):
            return [node]
        found = curriculum(self._stage(node, loc, chain), loc, self.problems)
        self.count += len(found)
        if self.count > MOST_STAGES:
            message = f"the recipe has more than {MOST_STAGES} stages once its named lists of stages are written out"
            raise YamlError(problem_at(node.value, message, loc))
        return [with_until(each, loc, self.problems) for each in found]

    def _stage(self, node: Placed, loc: Loc, chain: tuple[str, ...] = ()) -> Placed:
        """A stage over the one that it is like, before its curriculum is written out."""
        if isinstance(node.data, str):
            named = self._named("stages", node, loc, chain)
            return node if named is None else self._stage(named, ("stages", node.data), (*chain, node.data))
        if not isinstance(node.data, dict):
            self.problems.append(problem_at(node.value, "this is a list of stages; only one can be taken over", loc))
            return node
        return self._like(node.without(LIKE), "stages", node, loc, chain, self._stage)

    def _like(
        self,
        own: Placed,
        kind: str,
        node: Placed,
        loc: Loc,
        chain: tuple[str, ...],
        taken_over: Callable[[Placed, Loc, tuple[str, ...]], Placed],
    ) -> Placed:
        like = node.get(LIKE)
        if like is None:
            return own
        named = self._named(kind, like, (*loc, LIKE), chain)
        if named is None:
            return own
        below = taken_over(named, (kind, like.data), (*chain, like.data))
        return own.over(below) if isinstance(below.data, dict) else own

    def _named(self, kind: str, node: Placed, loc: Loc, chain: tuple[str, ...]) -> Placed | None:
        """What is known under the name that a node gives; None, and a problem, if there is none such."""
        mapping = self.named.get(kind)
        known = mapping.data if mapping is not None and isinstance(mapping.data, dict) else {}
        name = node.data
        if isinstance(name, str) and name in chain:
            self.problems.append(
                problem_at(node.value, f"'{name}' takes over itself: {' -> '.join([*chain, name])}", loc)
            )
            return None
        if not isinstance(name, str) or name not in known:
            guess = nearest(str(name), known)
            hint = f" Did you mean '{guess}'?" if guess else ""
            message = f"there is no '{name}' among the {kind} of this recipe.{hint} Known: {', '.join(known) or 'none'}"
            self.problems.append(problem_at(node.value, message, loc))
            return None
        self.taken.add((kind, name))
        found: Placed = known[name]
        return found
