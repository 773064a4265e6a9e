"""`harness recipe PROTOCOL --method NAME`: what a recipe comes to on a protocol, before anything is trained."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from harness.cli.notices import notice
from harness.cli.recipe_options import add_recipe_arguments, changes_of
from harness.yaml_files.source_location import Place, shown

if TYPE_CHECKING:
    from harness.training.recipe_file import Resolved


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", help="a shipped protocol's name, or a YAML file")
    parser.add_argument("--method", required=True, metavar="NAME", help="a method's name, or path/to/file.py:ClassName")
    add_recipe_arguments(parser)
    parser.add_argument("--init", action="store_true", help="as when training begins from another run's weights")
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(args: argparse.Namespace) -> int:
    from harness.method.registry import check_kind, load_method
    from harness.protocol.load import load_protocol
    from harness.training.recipe_file import resolve_for

    loaded, method = load_protocol(args.protocol), load_method(args.method)
    check_kind(method.cls, loaded.protocol)
    resolved = resolve_for(method, loaded, args.budget, args.recipe, args.init, changes=changes_of(args))
    for note in resolved.notes:
        notice(note)
    found = _described(resolved)
    print(json.dumps(found, indent=2, ensure_ascii=False) if args.json else "\n".join(_lines(found)))
    return 0


def _described(resolved: Resolved) -> dict[str, Any]:
    from harness.runs.build_record import recipe_marks
    from harness.training.recipe import budget_hash

    budget = resolved.budget
    stages = [
        {**stage.model_dump(exclude_defaults=True), "objective": stage.objective, "place": _place(place)}
        for stage, place in zip(budget.stages, resolved.stages, strict=True)
    ]
    return {
        "recipe": shown(resolved.path),
        "part": _place(resolved.part),
        "budget": resolved.name,
        "recipe_hash": budget_hash(budget),
        "options": budget.options,
        "batch": budget.batch,
        "optimizer": budget.optimizer.model_dump(),
        "clip_norm": budget.clip_norm,
        "augment": budget.augment,
        "episodes": budget.episodes,
        "stages": stages,
        "left_out": [{"stage": each.name, "reason": each.reason} for each in resolved.left_out],
        "validation": budget.validation.model_dump() if budget.validation else None,
        "changes": resolved.changes,
        "marks": recipe_marks(resolved),
    }


def _place(place: Place) -> str:
    return f"{shown(place.path)}:{place.line}"


def _lines(found: dict[str, Any]) -> list[str]:
    validation, optimizer = found["validation"], found["optimizer"]
    looks = f"{validation['episodes']} episodes every {validation['every']}" if validation else "none"
    head = {
        "recipe": found["recipe"],
        "part": found["part"],
        "budget": f"{found['budget']}, hash {found['recipe_hash'][:12]}",
        "options": _pairs(found["options"]) or "those of the method",
        "optimizer": f"{_pairs(optimizer)}, batch {found['batch']}, clip_norm {found['clip_norm'] or 'none'}",
        "augment": ", ".join(found["augment"]) or "none",
        "validation": looks,
        "marks": "; ".join(found["marks"]) or "none",
        "episodes": f"{found['episodes']} at most",
    }
    lines = [f"{name + ':':<12}{value}" for name, value in head.items()]
    lines.append("stages:" if found["stages"] else "stages:     none, nothing is trained")
    for number, stage in enumerate(found["stages"], 1):
        rest = {key: value for key, value in stage.items() if key not in {"name", "objective", "place", "episode"}}
        shape = f"; episode: {_pairs(stage['episode'])}" if stage.get("episode") else ""
        lines.append(f"  {number}. {stage['name']} ({stage['objective']}): {_pairs(rest)}{shape}  [{stage['place']}]")
    lines += [f"left out: {each['stage']}: {each['reason']}" for each in found["left_out"]]
    return lines


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_pairs(value) if isinstance(value, dict) else value}" for key, value in values.items())
