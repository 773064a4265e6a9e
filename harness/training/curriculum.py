"""Growing episodes in one stage of a recipe: keys with lists stand for as many stages, `until: binding` for a loss."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from harness.yaml_files.placed import Placed
from harness.yaml_files.source_location import Loc, Problem, problem_at

UNTIL = "until"
BINDING = "binding"


def binding_loss(ways: int) -> float:
    """The smoothed loss per scored step below which labels of so many ways are bound: 0.35 ln(ways) + 0.1."""
    return round(0.35 * math.log(ways) + 0.1, 3)


def curriculum(stage: Placed, loc: Loc, problems: list[Problem]) -> list[Placed]:
    """One stage for each entry of the lists that its keys have; itself if they have none."""
    episode = stage.get("episode")
    inside = episode.data if episode is not None and isinstance(episode.data, dict) else {}
    lists: dict[tuple[str, ...], Placed] = {
        ("episode", key): each for key, each in inside.items() if isinstance(each.data, list)
    }
    lists |= {(key,): each for key, each in stage.data.items() if isinstance(each.data, list)}
    if not lists:
        return [stage]
    first, leading = next(iter(lists.items()))
    for path, each in lists.items():
        if len(each.data) != len(leading.data) or not each.data:
            message = f"has {len(each.data)} entries, but '{'.'.join(first)}' has {len(leading.data)}"
            problems.append(problem_at(each.value, message if each.data else "is empty", (*loc, *path)))
            return []
    found = []
    for number in range(len(leading.data)):
        own = {key: each.data[number] if (key,) in lists else each for key, each in stage.data.items()}
        if inside:
            assert episode is not None
            shape = {key: each.data[number] if ("episode", key) in lists else each for key, each in inside.items()}
            own["episode"] = replace(episode, data=shape)
        found.append(_renamed(replace(stage, data=own), loc, problems))
    names = [each.data["name"].data for each in found if "name" in each.data]
    if len({str(name) for name in names}) < len(names):
        word = first[-1]
        message = f"every stage of a curriculum needs a name of its own: write {{{word}}} into it"
        problems.append(problem_at(stage.data["name"].value, message, (*loc, "name")))
    return found


def _renamed(stage: Placed, loc: Loc, problems: list[Problem]) -> Placed:
    """The stage with its own numbers in its name."""
    name = stage.get("name")
    if name is None or not isinstance(name.data, str):
        return stage
    episode = stage.get("episode")
    words = {key: each.data for key, each in stage.data.items()}
    if episode is not None and isinstance(episode.data, dict):
        words |= {key: each.data for key, each in episode.data.items()}

    def word(match: re.Match[str]) -> str:
        if match[1] not in words:
            message = f"'{match[0]}' is no key of this stage or of its episode"
            problems.append(problem_at(name.value, message, (*loc, "name")))
            return match[0]
        return str(words[match[1]])

    return replace(stage, data=stage.data | {"name": replace(name, data=re.sub(r"\{(\w*)\}", word, name.data))})


def with_until(stage: Placed, loc: Loc, problems: list[Problem]) -> Placed:
    """The stage with the loss that it ends at in place of the word for it."""
    until = stage.get(UNTIL)
    if until is None:
        return stage
    episode = stage.get("episode")
    ways = (episode.get("ways") or episode.get("subtasks")) if episode is not None else None
    if until.data != BINDING:
        message = f"found {until.plain!r}, expected {BINDING} (a number goes into until_loss)"
    elif "until_loss" in stage.data:
        message = "a stage has either 'until' or 'until_loss'"
    elif ways is None or not isinstance(ways.data, int) or isinstance(ways.data, bool) or ways.data < 1:
        message = f"'{BINDING}' is 0.35 ln(ways) + 0.1, and this stage says neither ways nor subtasks"
    else:
        loss = replace(until, data=binding_loss(ways.data))
        return replace(stage, data=stage.without(UNTIL).data | {"until_loss": loss})
    problems.append(problem_at(until.value, message, (*loc, UNTIL)))
    return stage.without(UNTIL)
