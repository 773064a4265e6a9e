"""`harness run --dry-run`: what would be run, and on what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.notices import notice
from harness.cli.recipe import time_described, time_line
from harness.cli.text_table import terminal_width, wrap
from harness.util.quantities import counted
from harness.util.shown_text import in_json, in_line
from harness.yaml_files.source_location import shown

if TYPE_CHECKING:
    from harness.runs.resolve import Prepared


def shown_plan(prepared: Prepared, seeds: list[int], boards: Path | None, as_json: bool) -> str:
    """A run with every name resolved, as text or as JSON."""
    plan = _plan(prepared, seeds, boards)
    if as_json:
        return in_json(plan)
    width, room = max(map(len, plan)), terminal_width()
    texts = {**plan, "expected time": time_line(plan["expected time"], "`harness recipe ... --time-it`")}
    rows = (f"{name:<{width}}  {in_line(_text(value))}" for name, value in texts.items())
    lines = [wrap(row, room, " " * (width + 2)) for row in rows]
    named = f"{prepared.request.protocol} --method {prepared.request.method} --budget {prepared.resolved.name}"
    last = f"Nothing was run (--dry-run). `harness recipe {named}` shows the recipe line by line."
    return "\n".join([*lines, "", wrap(last, room)])


def _plan(prepared: Prepared, seeds: list[int], boards: Path | None) -> dict[str, Any]:
    from harness.runs.resolve import resumed_or_begun, with_seeds
    from harness.training.recipe_changes import in_words

    request, protocol, identity, budget = prepared.request, prepared.protocol, prepared.identity, prepared.budget
    selection, resolved = budget.validation, prepared.resolved
    runs = resumed_or_begun(with_seeds(prepared, seeds))
    return {
        "protocol": f"{prepared.loaded.name} ({protocol.kind}), {prepared.loaded.path}, digest {protocol.digest[:12]}",
        "data": f"{prepared.dataset.name}, {prepared.dataset.source}, fingerprint {identity['fingerprint'][:12]}",
        "test episodes": identity["test_episodes"],
        "method": f"{prepared.method.name} ({prepared.method.target})",
        "options": prepared.options,
        "parameters": _parameters(prepared),
        "recipe": f"{shown(resolved.path)}, budget {resolved.name}, hash {identity['recipe_hash'][:12]}",
        "changes": "; ".join(in_words(resolved.changes)) or "none",
        "stages": [f"{stage.name} ({stage.objective}), {stage.episodes} episodes" for stage in budget.stages],
        "training episodes": min(budget.episodes, request.episodes or budget.episodes),
        "limits": identity["budget_cut"] or "none",
        "begins from": "fresh weights" if request.init is None else str(request.init),
        "validation": f"{selection.episodes} episodes every {selection.every}" if selection else "none",
        "precision": budget.precision,
        "seeds": seeds,
        "device": f"{prepared.device}, {counted(request.threads or 1, 'thread')}",
        "expected time": _expected(prepared),
        "run folder": [str(each.folder) for each in runs],
        "state": [_state(each) for each in runs],
        "board": "none (--no-board)" if boards is None else str(boards),
    }


def _parameters(prepared: Prepared) -> int:
    """Trainable numbers of the method as it would be built; UserError where it cannot be built with its options, or not
    begin from the weights that were named."""
    from harness.runs.init import load_init
    from harness.runs.run import training_of

    method = training_of(prepared, notice).method
    load_init(method, prepared.request.init, prepared.method.target)
    return sum(each.numel() for each in method.parameters() if each.requires_grad)


def _state(prepared: Prepared) -> str:
    """What there is of a run; UserError where it would be refused for it."""
    from harness.runs.folder import look
    from harness.runs.status import CHECKPOINT
    from harness.training.checkpoint import progress_in

    found = look(prepared)
    if found.record is not None:
        return f"finished on {found.record.when:%Y-%m-%d at %H:%M} UTC, not repeated"
    if found.aside:
        return "what is there is set aside, and it begins anew"
    if found.status is None:
        return "it begins"
    path = prepared.folder / CHECKPOINT
    if not path.is_file():
        return f"{found.status} before its first checkpoint, goes on from 0 episodes"
    progress, request, total = progress_in(path), prepared.request, prepared.budget.episodes
    if progress.ends_at(min(total, request.episodes or total), request.seconds):
        return f"{found.status} at {progress.episodes} episodes, is trained no further and scored"
    return f"{found.status}, goes on from {progress.episodes} episodes"


def _expected(prepared: Prepared) -> dict[str, Any] | None:
    """The time of one run, as a finished run of the same recorded it on this machine; None if there is none."""
    from harness.records.provenance import hardware
    from harness.runs.expected_time import recorded_time

    request = prepared.request
    machine = hardware(prepared.device).model_copy(update={"threads": request.threads})
    time = recorded_time(request.out, prepared.identity, prepared.budget, machine)
    if time is None:
        return None
    found = time_described(time)
    training = min(found["training"], request.seconds or found["training"])
    return {**found, "training": training, "seconds": training + found["scoring"]}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={each if isinstance(each, str) else json.dumps(each)}" for key, each in value.items())
    if isinstance(value, list):
        return "; ".join(map(str, value)) or "none"
    return str(value)
