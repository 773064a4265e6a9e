"""`harness view`: boards and runs in a browser on this machine, with runs that go on as they are now."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.common import add_boards, add_places, boards_to_read, whole_number
from harness.util.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs are (runs)")
    parser.add_argument("--port", type=whole_number, default=0, metavar="N", help="the port (any free one)")
    parser.add_argument(
        "--data", choices=("real", "stand-in"), default="real", help="the boards of real or of generated data"
    )
    add_boards(parser)
    add_places(parser)


def execute(args: argparse.Namespace) -> int:
    from harness.report.server import HOST, Sources, server
    from harness.report.sources import Places

    if args.port > 65_535:
        raise UserError(f"--port is {args.port}; it can be up to 65535")
    sources = Sources(boards_to_read(args, args.data == "stand-in"), args.runs, Places(args.data_root, args.cache))
    try:
        served = server(sources, args.port)
    except OSError as error:
        raise UserError(
            f"port {args.port} cannot be used ({error.strerror}); leave --port out for a free one"
        ) from None
    with served:
        print(f"http://{HOST}:{served.server_port}/  (read-only, this machine alone; Ctrl-C ends it)", flush=True)
        served.serve_forever()
    return 0
