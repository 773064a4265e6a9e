"""`harness show PROTOCOL`: one episode as a timeline that a person can read."""

from __future__ import annotations

import argparse

from harness.cli.common import add_data_arguments, whole_number
from harness.util.errors import MissingData


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", help="a shipped protocol's name, or a YAML file")
    parser.add_argument("--episode", type=whole_number, default=0, metavar="I", help="number of the episode (0)")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="(test)")
    parser.add_argument(
        "--seed",
        type=whole_number,
        default=0,
        metavar="N",
        help="seed of the episodes; scoring uses seed 0 (0)",
    )
    add_data_arguments(parser)
    parser.epilog = (
        "Without the data, classes are shown by number instead of by name; for a data set of your own, no episode is "
        "shown."
    )


def execute(args: argparse.Namespace) -> int:
    from harness.data.dataset import card_table
    from harness.data.open_dataset import load_dataset
    from harness.episodes.plan import plan_episodes
    from harness.episodes.timeline import class_list, timeline
    from harness.protocol import describe
    from harness.protocol.load import for_data, load_protocol

    loaded = load_protocol(args.protocol)
    protocol = for_data(loaded, args.data)
    print(describe.heading(loaded.name, protocol))
    note = ""
    try:
        dataset = load_dataset(protocol.dataset, args.data_root, args.cache, download=False, base=loaded.base)
    except MissingData as error:
        if not protocol.card.images_per_class:
            print(f"\nNo episode is shown: the classes of {protocol.data_name} are known once it is loaded.\n{error}")
            return 0
        table = card_table(protocol.card, args.split)
        reason = str(error).splitlines()[0].rstrip(".")
        note = f"Classes are shown by number only: {reason}.\n"
    else:
        table = dataset.table(args.split)
    plan = plan_episodes(protocol, table, args.split, args.seed, [args.episode])
    print(f"\nEpisode {args.episode} of the {args.split} split under seed {args.seed}.")
    print(f"{note}{class_list(protocol, plan, table)}\n{protocol.words.legend}\n")
    print(timeline(protocol, plan, table))
    return 0
