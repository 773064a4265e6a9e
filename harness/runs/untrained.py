"""What is asked of the training of a method that has nothing to train: refused, or said to do nothing."""

from __future__ import annotations

import logging

from harness.method.interface import Method
from harness.runs.resolve import Prepared, Request
from harness.util.errors import UserError
from harness.util.option_names import option

LOG = logging.getLogger(__name__)


def check_untrained(prepared: Prepared, method: Method, alone: bool) -> None:
    """Says which options do nothing where no update is made.

    Raises UserError where nothing but training was asked for (`alone`), where a search is claimed, and where weights
    are to be loaded into a method that holds none.
    """
    name, request = prepared.method.name, prepared.request
    if alone or request.searched:
        asked = option("train-only" if alone else "searched")
        raise UserError(f"{asked}: budget {prepared.resolved.name} of {name} trains nothing")
    if request.init is not None and not method.state_dict():
        raise UserError(f"{option('init')}: {name} has no weights that could be loaded")
    for each in _of_training(request):
        LOG.warning(f"{each} has no effect: {name} trains nothing")


def _of_training(request: Request) -> list[str]:
    """The options given that are about training alone."""
    changes = {name if name in ("lr", "batch") else "override": True for name in request.changes}
    given = {
        **changes,
        "recipe": request.recipe,
        "precision": request.precision,
        "episodes": request.episodes,
        "time": request.seconds,
    }
    return [option(name) for name, value in given.items() if value]
