"""Names by which a reader tells the entries of a board apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.boards.columns import budget_of, option_texts, trained
from harness.boards.entries import Entry


def entry_names(entries: Sequence[Entry]) -> dict[int, str]:
    """A name for each entry, by its `id`: its method's, and after ', ' what tells it from others of the same method if
    there are such: its budget, the options that it does not share with all of them, its training episodes, or the end
    of its run's name."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.newest.method, []).append(entry)
    names = {}
    for method, group in groups.items():
        texts = [
            (budget_of(each.newest), options, f"{trained(each)} episodes")
            for each, options in zip(group, _own_options(group), strict=True)
        ]
        counts = [Counter(column) for column in zip(*texts, strict=True)]
        for entry, words in zip(group, texts, strict=True):
            own = next((word for word, count in zip(words, counts, strict=True) if count[word] == 1), None)
            suffix = entry.newest.run.rpartition("-")[2][:6] if own is None else own or "default"
            names[id(entry)] = method if len(group) == 1 else f"{method}, {suffix}"
    return names


def _own_options(group: Sequence[Entry]) -> list[str]:
    """The options of each entry that not all of the group have, those first that the fewest have; all if it has no
    such option."""
    every = [option_texts(entry.newest) for entry in group]
    count = Counter(text for texts in every for text in texts)
    own = [sorted((text for text in texts if count[text] < len(group)), key=count.__getitem__) for texts in every]
    return [", ".join(few or texts) for few, texts in zip(own, every, strict=True)]
