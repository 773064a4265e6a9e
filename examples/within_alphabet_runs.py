"""Twenty within-alphabet 20-way one-shot runs of Omniglot, as a file of episodes.

    python examples/within_alphabet_runs.py runs.jsonl

Each alphabet of the evaluation set gives one run: twenty of its characters, spread evenly over it, one drawing of each
by one drawer as the support set, and one of each by another drawer as the queries. Lake et al. (2015) scored twenty
such runs. Class numbers are left out: the harness draws them, the same each time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import harness

WAYS, DRAWERS = 20, 20


def runs(dataset: harness.Dataset) -> list[dict[str, Any]]:
    """The rows of the runs, one a step."""
    table = dataset.table("test")
    alphabets: dict[str, list[int]] = {}
    for row, name in enumerate(table.names):
        alphabets.setdefault(name.split("/")[0], []).append(row)
    rows = []
    for number, (alphabet, characters) in enumerate(sorted(alphabets.items())):
        chosen = np.linspace(0, len(characters) - 1, WAYS).round().astype(int)
        # Drawings of a character are in the order of their drawers.
        drawers = {"support": number % DRAWERS, "query": (number + DRAWERS // 2) % DRAWERS}
        order = {"support": chosen, "query": [chosen[7 * k % WAYS] for k in range(WAYS)]}  # not the same in both
        steps = [(phase, characters[place], drawer) for phase, drawer in drawers.items() for place in order[phase]]
        for step, (phase, character, drawer) in enumerate(steps):
            image = table.members[table.offsets[character] + drawer]
            rows.append(
                {
                    "episode": alphabet,
                    "step": step,
                    "phase": phase,
                    "image_id": dataset.image_ids[image],
                    "class_name": table.names[character],
                }
            )
    return rows


if __name__ == "__main__":
    file = Path(sys.argv[1])
    lines = [json.dumps(row) for row in runs(harness.load_dataset("omniglot_lake"))]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {len(lines)} steps to {file}")
