"""`harness show PROTOCOL`: one episode as a timeline that a person can read."""

from __future__ import annotations

import argparse

from harness.cli.common import add_data_arguments, whole_number
from harness.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", help="a shipped protocol's name, or a YAML file")
    parser.add_argument("--episode", type=whole_number, default=0, metavar="I", help="number of the episode (0)")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="(test)")
    parser.add_argument(
        "--seed",
        type=whole_number,
        default=0,
        metavar="N",
        help="seed of the episodes; scores are taken under 0 (0)",
    )
    add_data_arguments(parser)
    parser.epilog = "Without the data, the episode is shown with numbers in place of class names."


def execute(args: argparse.Namespace) -> int:
    from harness import show
    from harness.load import for_data, load_protocol
    from harness.plan import plan_episodes
    from harness.spec import DelayedLabel, OnlineFewShot

    loaded = load_protocol(args.protocol)
    protocol = for_data(loaded, args.data)
    print(show.heading(loaded.name, protocol))
    if not isinstance(protocol, OnlineFewShot | DelayedLabel):
        raise UserError(f"episodes of kind '{protocol.kind}' cannot be drawn yet; the protocol itself is valid")
    note = ""
    try:
        from harness.data.load import load_dataset

        table = load_dataset(protocol.dataset, args.data_root, args.cache, download=False).tables[args.split]
    except UserError as error:
        table = show.table_of_card(protocol, args.split)
        reason = str(error).splitlines()[0].rstrip(".")
        note = f"Classes are shown by number only: {reason}.\n"
    plan = plan_episodes(protocol, table, args.split, args.seed, [args.episode])
    print(f"\nEpisode {args.episode} of the {args.split} split under seed {args.seed}.")
    print(f"{note}{show.class_list(plan, table)}\n{show.LEGEND}\n")
    print(show.timeline(plan, table, protocol.scoring.shots))
    return 0
