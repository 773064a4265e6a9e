"""`harness recipe PROTOCOL --method NAME`: what a recipe comes to on a protocol, before anything is trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import add_data_arguments, add_json, thread_number
from harness.cli.notices import notice
from harness.cli.recipe_options import add_recipe_arguments, changes_of
from harness.cli.text_table import terminal_width, wrap
from harness.util import shown_text
from harness.util.quantities import about
from harness.yaml_files.source_location import Place, shown

if TYPE_CHECKING:
    from harness.method.registry import LoadedMethod
    from harness.protocol.load import Loaded
    from harness.runs.expected_time import ExpectedTime
    from harness.training.recipe_file import Resolved

_SECONDS_A_STAGE = 2.0
_HEAD = 12
"""Characters of the first column."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", help="a shipped protocol's name, or a YAML file")
    parser.add_argument("--method", required=True, metavar="NAME", help="a method's name, or path/to/file.py:ClassName")
    add_recipe_arguments(parser)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the method; may be repeated"
    )
    parser.add_argument(
        "--init",
        nargs="?",
        const=True,
        metavar="RUN",
        help="as when training begins from another run's weights, whichever they are",
    )
    parser.add_argument(
        "--time-it",
        action="store_true",
        help=f"measure the time of a run: {_SECONDS_A_STAGE:g} seconds of updates of each stage, on the data",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="where finished runs tell the time they took"
    )
    add_data_arguments(parser)
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto")
    parser.add_argument("--threads", type=thread_number, metavar="N", help="torch threads (default: the cores at hand)")
    add_json(parser)


def execute(args: argparse.Namespace) -> int:
    from harness.method.options import parse_options
    from harness.method.registry import check_kind, load_method
    from harness.protocol.load import for_data, load_protocol
    from harness.runs.resolve import weights_file
    from harness.training.recipe_file import resolve_for

    loaded, method = load_protocol(args.protocol), load_method(args.method)
    protocol = for_data(loaded, args.data)
    check_kind(method.cls, protocol)
    if isinstance(args.init, str):
        weights_file(Path(args.init))  # that it is there
    resolved = resolve_for(method, loaded, args.budget, args.recipe, args.init is not None, protocol, changes_of(args))
    for note in resolved.notes:
        notice(note)
    options = {**resolved.budget.options, **parse_options(args.set)}
    parameters = _parameters(args, resolved, loaded, method, options)
    time = None
    if resolved.budget.stages and parameters != 0:
        time = _time(args, resolved, loaded, method, options)
    found = _described(resolved, options, parameters, time)
    if args.json:
        print(shown_text.in_json(found))
        return 0
    width = terminal_width()
    lines = (wrap(line, width, " " * (5 if line.startswith(" ") else _HEAD)) for line in _lines(found))
    print(shown_text.shown("\n".join(lines)))
    return 0


def _parameters(
    args: argparse.Namespace, resolved: Resolved, loaded: Loaded, method: LoadedMethod, options: dict[str, Any]
) -> int | None:
    """Numbers in the method's weights, as records count them; None where they depend on data not decoded yet."""
    from harness.method.options import parse_options
    from harness.method.registry import build_method, task_for
    from harness.protocol.load import for_data

    protocol = for_data(loaded, args.data)
    classes = protocol.card.classes.get("train")
    if classes is None and protocol.ways is None:
        return None
    with resolved.naming_options(parse_options(args.set)):
        built = build_method(method.cls, task_for(method.cls, protocol, protocol.card.image_shape, classes), options, 0)
    return sum(each.numel() for each in built.parameters())


def _time(
    args: argparse.Namespace, resolved: Resolved, loaded: Loaded, method: LoadedMethod, options: dict[str, Any]
) -> ExpectedTime | None:
    """The time of a run: measured now if that is wanted, or else as a finished run recorded it."""
    import dataclasses

    from harness.method.options import parse_options, resolved_options
    from harness.protocol.load import for_data
    from harness.records.provenance import cores, hardware
    from harness.runs.expected_time import measured_time, recorded_time
    from harness.runs.resolve import Request, device_named, prepare
    from harness.training.recipe import budget_hash

    threads = args.threads or cores()
    if args.time_it:
        request = Request(
            args.protocol,
            args.method,
            args.budget,
            options=parse_options(args.set),
            recipe=args.recipe,
            data=args.data,
            data_root=args.data_root,
            cache=args.cache,
            device=args.device,
            threads=threads,
        )
        # Begun from weights or not, a training takes the same time; its recipe may be another.
        prepared = dataclasses.replace(
            prepare(request, loaded),
            resolved=resolved,
            budget=resolved.budget,
            options=resolved_options(method.cls, options),
        )
        return measured_time(prepared, _SECONDS_A_STAGE, notice)
    protocol = for_data(loaded, args.data)
    identity = {
        "target": method.target,
        "options": resolved_options(method.cls, options),
        "digest": protocol.digest,
        "recipe_hash": budget_hash(resolved.budget),
        "test_episodes": protocol.test_episodes,
    }
    machine = hardware(device_named(args.device)).model_copy(update={"threads": threads})
    return recorded_time(args.out, identity, resolved.budget, machine)


def _described(
    resolved: Resolved, options: dict[str, Any], parameters: int | None, time: ExpectedTime | None
) -> dict[str, Any]:
    from harness.runs.build_record import recipe_marks
    from harness.runs.expected_time import updates_of
    from harness.training.recipe import budget_hash

    budget = resolved.budget
    stages: list[dict[str, Any]] = [
        {
            **stage.model_dump(exclude_defaults=True),
            "objective": stage.objective,
            "updates": updates_of(stage, budget),
            "place": _place(place),
        }
        for stage, place in zip(budget.stages, resolved.stages, strict=True)
    ]
    for stage, each in zip(stages, time.stages if time else (), strict=False):
        stage["time"] = {"updates": each.updates, "seconds": round(each.seconds, 1)}
    return {
        "recipe": shown(resolved.path),
        "part": _place(resolved.part),
        "budget": resolved.name,
        "recipe_hash": budget_hash(budget),
        "options": options,
        "parameters": parameters,
        "batch": budget.batch,
        "optimizer": budget.optimizer.model_dump(),
        "clip_value": budget.clip_value,
        "clip_tensor_norm": budget.clip_tensor_norm,
        "clip_norm": budget.clip_norm,
        "ema_decay": budget.ema_decay,
        "augment": budget.augment,
        "episodes": budget.episodes,
        "stages": stages,
        "left_out": [{"stage": each.name, "reason": each.reason} for each in resolved.left_out],
        "validation": budget.validation.model_dump() if budget.validation else None,
        "changes": dict(resolved.changes),
        "marks": recipe_marks(resolved) if parameters != 0 else [],
        "time": None if time is None else time_described(time),
    }


def time_described(time: ExpectedTime) -> dict[str, Any]:
    """An expected time as plain data, in seconds."""
    return {
        "source": time.source,
        "at_most": time.at_most,
        "seconds": round(time.seconds, 1),
        "training": round(sum(each.seconds for each in time.stages), 1),
        "validations": None if time.validations is None else round(time.validations, 1),
        "scoring": round(time.scoring, 1),
    }


def _place(place: Place) -> str:
    return f"{shown(place.path)}:{place.line}"


def _lines(found: dict[str, Any]) -> list[str]:
    validation, optimizer, untrained = found["validation"], found["optimizer"], found["parameters"] == 0
    looks = f"{validation['episodes']} episodes every {validation['every']}" if validation else "none"
    head = {
        "recipe": found["recipe"],
        "part": found["part"],
        "budget": f"{found['budget']}, hash {found['recipe_hash'][:12]}",
        "options": _pairs(found["options"]) or "those of the method",
        "parameters": "known once the data are decoded" if found["parameters"] is None else f"{found['parameters']:,}",
        "optimizer": f"{_pairs(optimizer)}, batch {found['batch']}, {_clipping(found)}{_averaging(found)}",
        "augment": ", ".join(found["augment"]) or "none",
        "validation": looks,
        "marks": "; ".join(found["marks"]) or "none",
        "episodes": f"{found['episodes']} at most",
        "time": time_line(found["time"]),
    }
    if untrained or not found["stages"]:
        why = "the method has no parameters" if untrained else "the recipe has no stages"
        return [f"{name + ':':<{_HEAD}}{head[name]}" for name in ("recipe", "options")] + [f"nothing is trained: {why}"]
    lines = [f"{name + ':':<{_HEAD}}{value}" for name, value in head.items()]
    lines.append("stages:")
    shown_elsewhere = {"name", "objective", "place", "episode", "updates", "time"}
    for number, stage in enumerate(found["stages"], 1):
        rest = {key: value for key, value in stage.items() if key not in shown_elsewhere}
        shape = f"; episode: {_pairs(stage['episode'])}" if stage.get("episode") else ""
        lines.append(
            f"  {number}. {stage['name']} ({stage['objective']}): {_pairs(rest)}{shape}; "
            f"{stage['updates']} updates{_stage_time(stage, found['time'])}  [{stage['place']}]"
        )
    lines += [f"left out: {each['stage']}: {each['reason']}" for each in found["left_out"]]
    return lines


def _clipping(found: dict[str, Any]) -> str:
    finer = [f"{key} {found[key]}" for key in ("clip_value", "clip_tensor_norm") if found[key] is not None]
    return ", ".join([*finer, f"clip_norm {found['clip_norm'] or 'none'}"])


def _averaging(found: dict[str, Any]) -> str:
    return "" if found["ema_decay"] is None else f", weights averaged with ema_decay {found['ema_decay']}"


def time_line(time: dict[str, Any] | None, measured_by: str = "--time-it") -> str:
    """An expected time in words; of one that is not known (None), what measures it."""
    if time is None:
        return f"not known: no run of this was trained to its end here; {measured_by} measures it"
    parts = [f"training {about(time['training'])}"]
    parts += [] if time["validations"] is None else [f"validation {about(time['validations'])}"]
    parts += [f"scoring {about(time['scoring'])}"]
    most = "at most " if time["at_most"] else ""
    return f"{most}{about(time['seconds'])} on this machine: {', '.join(parts)} ({time['source']})"


def _stage_time(stage: dict[str, Any], time: dict[str, Any] | None) -> str:
    if "time" not in stage or time is None:
        return ""
    spent, early = stage["time"], ""
    if spent["updates"] < stage["updates"]:
        early = f", ended after {spent['updates']}"
    most = "at most " if "until_loss" in stage and time["at_most"] else ""
    return f"{early}, {most}{about(spent['seconds'])}"


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_pairs(value) if isinstance(value, dict) else value}" for key, value in values.items())
