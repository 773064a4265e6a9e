"""How far a search of a sweep is, in a line and as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.sweep.searching import SearchState


def search_line(state: SearchState) -> str:
    """The search, its trials, and the best one so far with its values."""
    study, best = state.planned.study, state.best
    failed = sum(each.state == "failed" for each in state.trials)
    counted = f"{state.ended} of {study.search.trials} trials" + (f", {failed} failed" if failed else "")
    found = ""
    if best is not None:
        values = ", ".join(f"{name}={value}" for name, value in best.values.items())
        found = f"; best validation score {best.score:.2f} with {values}; {state.table}"
    after = "" if state.done else f"; then {len(study.seeds)} run{'s' * (len(study.seeds) > 1)} of the best"
    return f"search of {study.title}: {counted}{found}{after}"


def search_as_json(state: SearchState) -> dict[str, Any]:
    """The search with its trials."""
    study, best = state.planned.study, state.best
    return {
        "search": study.title,
        "trials": study.search.trials,
        "ended": state.ended,
        "failed": sum(each.state == "failed" for each in state.trials),
        "best": None if best is None else {"trial": best.number, "validation": best.score, "values": best.values},
        "table": str(state.table),
        "history": [
            {"trial": each.number, "state": each.state, "validation": each.score, "values": each.values}
            for each in state.trials
        ],
    }
