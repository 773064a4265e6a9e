"""What each mark on a row means, in the words of docs/glossary.md where it has them (tests/report/test_marks.py)."""

from __future__ import annotations

from dataclasses import dataclass

MEANINGS = {
    "label delay told": "the method declares needs_label_delay and knows d; others must infer it",
    "gradient at test": "it takes gradient steps while it is scored",
    "transductive": "its answer to a query may depend on the other queries",
    "features pre-trained on classes": "a stage of training classified single images of the training classes",
    "pre-trained on another kind of episode": "a stage was trained on another kind of protocol",
    "features of another method": "training started from the features of another method's run (--init RUN), all else "
    "fresh",
    "weights of another method": "training started from all weights of another method's run (--init RUN); what this "
    "one has beside them is fresh",
    "starting weights from elsewhere": "training started from weights that the harness did not produce (--init FILE)",
    "recipe changed": "the command line changed the recipe (--lr, --batch, --override); the record has it under "
    "recipe_changes",
    "custom recipe": "trained by a recipe of the user's (--recipe FILE) that differs from the method's own",
    "trained by ": "N processes shared each batch of the training (several GPUs); the largest number, if it was "
    "resumed by another",
    "trained on ": "the training, or a part of it, was done on a device (a GPU by name, or cpu) other than the one "
    "that scored it, which is the row's hardware",
    "hyperparameters searched": "these hyperparameters had the best validation score of so many trials (--searched "
    "N, or search in a sweep); test scores had no part in the choice",
    "skips check": "the method declares that this conformance check does not apply; the reason is in harness check",
    "failed check": "the method failed a conformance check, or was not checked; listed apart, not ranked",
    "not checked": "the method failed a conformance check, or was not checked; listed apart, not ranked",
    "stand-in": "generated data; on a board of its own",
    "partial test": "fewer test episodes than the protocol has; listed apart, not ranked",
    "uncommitted code": "the checkout had uncommitted changes of the harness, methods or protocols during the run",
    "older not shown": "rows of the same setting and seed that a newer one replaces",
    "isolated in a process alone": "while it was scored, or scored again, the method was in a process without targets "
    "and data, which the system did not confine further",
    "isolated": "while it was scored, or scored again, the method was in a confined process without targets and data",
    "validated in fewer ways": "the validation split has fewer classes than an episode, so weights were selected by "
    "episodes with fewer",
    "not validated": "the validation split has too few classes for any episode; the last weights were scored",
}


@dataclass(frozen=True)
class Mark:
    """A mark on a row, what kind of mark it is, its meaning, and the place on the page that says it."""

    name: str
    kind: str
    meaning: str
    anchor: str


def explained(name: str) -> Mark:
    """A mark with its meaning; one of a method's own is only named."""
    for place, (known, meaning) in enumerate(MEANINGS.items()):
        if name.startswith(known) or name.endswith(known):
            return Mark(name, known, meaning, f"mark-{place}")
    return Mark(name, "others", "a mark that this page has no words for", "mark-other")
