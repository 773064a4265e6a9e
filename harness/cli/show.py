"""`harness show PROTOCOL`: one episode as a timeline that a person can read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import BOARDS, add_boards, add_data_arguments, add_json, boards_to_read, whole_number
from harness.cli.text_table import terminal_width, wrap
from harness.util.errors import MissingData, UserError, known_name, unknown
from harness.util.shown_text import in_json, shown

if TYPE_CHECKING:
    from harness.data.dataset import ClassTable
    from harness.episodes.episode_plan import EpisodePlan
    from harness.protocol.models import AnyProtocol

BY_DEFAULT = {"episode": 0, "split": "test", "seed": 0}
"""Which episode of a protocol is shown where nothing else is said."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a protocol's name or YAML file, or a method's name or path/to/file.py:ClassName")
    parser.add_argument("--episode", type=whole_number, metavar="I", help="number of the episode (default: 0)")
    parser.add_argument("--split", choices=("train", "validation", "test"), help="the split (default: test)")
    parser.add_argument(
        "--seed", type=whole_number, metavar="N", help="seed of the episodes (default: 0, as in scoring)"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the episode as a web page, with its images")
    parser.add_argument(
        "--run",
        metavar="RUN",
        help="with --html: what this run's method answered; the folder of a finished run, or a run's name on the board",
    )
    parser.add_argument(
        "--method",
        metavar="NAME",
        help="with --run: the run's method, if its code is not built in (a plugin's name or path/to/file.py:ClassName)",
    )
    add_json(parser)
    add_data_arguments(parser)
    add_boards(parser)
    parser.epilog = (
        "Without the data, classes are shown by number instead of by name; for a data set of your own, no episode is "
        "shown."
    )


def execute(args: argparse.Namespace) -> int:
    from harness.method.registry import method_names
    from harness.util.shipped_files import protocol_files

    for option, needed in (("run", "html"), ("method", "run")):
        if getattr(args, option) is not None and getattr(args, needed) is None:
            raise UserError(f"--{option} goes with --{needed}")
    methods, protocols = method_names(), protocol_files()
    if known_name(args.name, methods) or ".py:" in args.name or args.name.endswith(".py"):
        for option in ("html", *BY_DEFAULT):
            if getattr(args, option) is not None:
                raise UserError(f"--{option} is for an episode of a protocol, and {args.name} is a method")
        return _method(args)
    path = Path(args.name)
    if not (path.exists() or path.suffix or known_name(args.name, protocols)):
        raise unknown("protocol or method", args.name, [*protocols, *methods])
    for option, value in BY_DEFAULT.items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    return _episode(args) if args.html is None else _page(args)


def _method(args: argparse.Namespace) -> int:
    from harness.cli.method_card import card, card_text
    from harness.util.shipped_files import boards_dir

    found = card(args.name, args.boards or (BOARDS if BOARDS.is_dir() else boards_dir()))
    print(in_json(found) if args.json else shown(card_text(found, terminal_width(), args.name)))
    return 0


def _page(args: argparse.Namespace) -> int:
    """Writes the episode as a web page."""
    from harness.protocol.load import load_protocol
    from harness.report.episode_page import episode_page
    from harness.report.page import write
    from harness.report.run_log import is_run
    from harness.report.sources import Places, played, subject, weighted

    places = Places(args.data_root, args.cache, args.method)
    on = subject(load_protocol(args.name), args.data == "stand-in", places)
    run = None
    if args.run is not None:
        found_in = BOARDS  # not read where a folder is named
        if not is_run(Path(args.run)):
            found_in = boards_to_read(args, on.protocol.card.stand_in, on.loaded.name)
        run = weighted(args.run, on, found_in)
    found = played(on, args.split, args.seed, [args.episode], run, places)
    write(args.html, episode_page(found.shown, on.loaded.name, note=found.note))
    if args.json:
        print(in_json({"page": str(args.html), "note": found.note}))
        return 0
    print(shown("\n".join(filter(None, [found.note, f"open {args.html}"]))))
    return 0


def _episode(args: argparse.Namespace) -> int:
    from harness.data.open_dataset import load_dataset
    from harness.episodes.fixed import table_without_data, with_episodes
    from harness.episodes.plan import plan_episodes
    from harness.episodes.timeline import class_list, timeline
    from harness.protocol import describe
    from harness.protocol.load import for_data, load_protocol

    loaded = load_protocol(args.name)
    protocol = for_data(loaded, args.data)
    heading, width = describe.heading(loaded.name, protocol), terminal_width()
    note = ""
    try:
        dataset = load_dataset(protocol.dataset, args.data_root, args.cache, download=False, base=loaded.base)
        dataset = with_episodes(protocol, dataset, args.cache)
    except MissingData as error:
        if not protocol.card.images_per_class:
            if args.json:
                print(in_json(_as_json(loaded.name, protocol)))
                return 0
            missing = f"No episode is shown: the classes of {protocol.data_name} are known once it is loaded.\n{error}"
            print(shown(f"{wrap(heading, width)}\n\n{wrap(missing, width)}"))
            return 0
        table = table_without_data(protocol, args.split)
        reason = str(error).splitlines()[0].rstrip(".")
        note = f"Classes are shown by number only: {reason}.\n"
    else:
        table = dataset.table(args.split)
    plan = plan_episodes(protocol, table, args.split, args.seed, [args.episode])
    if args.json:
        print(in_json({**_as_json(loaded.name, protocol), "episode": _steps(plan, table, args)}))
        return 0
    print(shown(wrap(heading, width)))
    print(f"\nEpisode {args.episode} of the {args.split} split under seed {args.seed}.")
    print(shown(wrap(f"{note}{class_list(protocol, plan, table)}\n{protocol.words.legend}", width)) + "\n")
    print(shown(timeline(protocol, plan, table, width=width)))
    return 0


def _as_json(name: str, protocol: AnyProtocol) -> dict[str, Any]:
    return {
        "name": name,
        "title": protocol.title,
        "kind": protocol.kind,
        "digest": protocol.digest,
        "data": protocol.data_name,
        "ranking": protocol.ranking,
        "reported": list(protocol.reported),
        "test_episodes": protocol.test_episodes,
    }


def _steps(plan: EpisodePlan, table: ClassTable, args: argparse.Namespace) -> dict[str, Any]:
    """The episode step by step: class number, earlier presentations, revealed labels, what is revealed before it."""
    from harness.episodes.episode_plan import PHASES

    columns = {
        "phase": [PHASES[each] for each in plan.phase],
        "class": plan.target[0].tolist(),
        "shot": plan.shot[0].tolist(),
        "revealed_labels": plan.revealed[0].tolist(),
        "feedback_step": plan.feedback_step.tolist(),
        "scored": plan.scored.tolist(),
    }
    return {
        "split": args.split,
        "seed": args.seed,
        "number": args.episode,
        "classes": [table.names[row] for row in plan.classes[0].tolist()],
        "steps": [dict(zip(columns, step, strict=True)) for step in zip(*columns.values(), strict=True)],
    }
