"""`harness export PROTOCOL`: the episodes as a file, one row a step."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from harness.cli.common import add_data_arguments, add_json, add_overwrite, positive_number, whole_number
from harness.cli.parser import RawDefaults
from harness.cli.text_table import wrap
from harness.util.errors import UserError
from harness.util.quantities import counted
from harness.util.shown_text import in_json, shown

_IDENTITY = (
    "Every row carries the short digest and fingerprint: rows of several files can be told apart, and there is no "
    "header line to skip. Parquet files hold both in full in their schema metadata (protocol_digest, data, "
    "data_fingerprint)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", help="a shipped protocol's name, or a YAML file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .jsonl or .parquet file")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test", help="the split")
    parser.add_argument(
        "--episodes",
        type=positive_number,
        metavar="N",
        help="episodes 0..N-1 (default: the protocol's test episodes; for kind supervised, one per image)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number,
        default=0,
        metavar="N",
        help="seed of the episodes; scoring uses seed 0",
    )
    parser.add_argument(
        "--images", action="store_true", help="with the images themselves, so that the file needs no data set"
    )
    add_overwrite(parser)
    add_data_arguments(parser)
    add_json(parser)
    parser.formatter_class = RawDefaults
    parser.epilog = _columns_help()


def execute(args: argparse.Namespace) -> int:
    from harness.data.open_dataset import load_dataset
    from harness.episodes.export import export_episodes
    from harness.episodes.fixed import with_episodes
    from harness.protocol.episode_rows import FORMATS
    from harness.protocol.load import for_data, load_protocol
    from harness.util.atomic_files import check_new

    loaded = load_protocol(args.protocol)
    protocol = for_data(loaded, args.data)
    if args.out.suffix not in FORMATS:
        raise UserError(f"--out '{args.out}' must end in {' or '.join(FORMATS)}")
    check_new(args.out, args.overwrite)
    dataset = load_dataset(protocol.dataset, args.data_root, args.cache, base=loaded.base)
    dataset = with_episodes(protocol, dataset, args.cache)
    images = int(dataset.table(args.split).offsets[-1])
    episodes = args.episodes or protocol.test_episodes or images
    rows = export_episodes(protocol, dataset, args.split, args.seed, episodes, args.out, args.images)
    if args.json:
        print(
            in_json(
                {
                    "file": str(args.out),
                    "split": args.split,
                    "seed": args.seed,
                    "episodes": episodes,
                    "steps": rows,
                    "protocol": loaded.name,
                    "digest": protocol.digest,
                    "data": dataset.name,
                    "fingerprint": dataset.fingerprint,
                }
            )
        )
        return 0
    wrote = (
        f"wrote {counted(episodes, 'episode')} ({counted(rows, 'step')}) of the {args.split} split to {args.out}\n"
        f"protocol {loaded.name}, digest {protocol.digest}\n"
        f"data {dataset.name}, fingerprint {dataset.fingerprint}"
    )
    print(shown(wrote))
    return 0


def _columns_help() -> str:
    from harness.episodes.export import COLUMNS, KINDS

    width = shutil.get_terminal_size().columns - 2  # as argparse has it
    lines = [wrap(f"  {name:<12} {meaning}", width, " " * 15) for name, meaning in COLUMNS.items()]
    return "\n".join(
        [
            "columns, one row a step, rows in order of episode and step:",
            *lines,
            "",
            wrap(" ".join(KINDS), width),
            "",
            wrap(_IDENTITY, width),
        ]
    )
