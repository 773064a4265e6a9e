"""`harness view`: boards and runs in a browser on this machine, with runs that go on as they are now."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.common import add_boards, add_places, boards_to_read, whole_number
from harness.util.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs are")
    parser.add_argument("--port", type=whole_number, default=0, metavar="N", help="the port; 0 is any free one")
    parser.add_argument(
        "--data", choices=("real", "stand-in"), default="real", help="the boards of real or of generated data"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="the address that it listens at (127.0.0.1, for this machine alone); others can read what is served at "
        "any other, such as 0.0.0.0",
    )
    add_boards(parser)
    add_places(parser)


def execute(args: argparse.Namespace) -> int:
    from harness.report.commands import near
    from harness.report.server import Sources, is_loopback, server
    from harness.report.sources import Places

    if args.port > 65_535:
        raise UserError(f"--port is {args.port}; it can be up to 65535")
    places, stand_in = Places(args.data_root, args.cache), args.data == "stand-in"
    boards_to_read(args, stand_in)  # refused now, and not when a page is asked for
    sources = Sources(args.boards, near(args.runs), places, stand_in)
    try:
        served = server(sources, args.port, args.host)
    except OSError as error:
        raise UserError(
            f"it cannot listen at {args.host}, port {args.port} ({error.strerror}); leave out --port for a free one, "
            "and --host for this machine alone"
        ) from None
    with served:
        host = f"[{args.host}]" if ":" in args.host else args.host
        readers = "this machine alone" if is_loopback(args.host) else "for all that can reach this machine"
        print(f"http://{host}:{served.server_port}/  (read-only, {readers}; Ctrl-C ends it)", flush=True)
        served.serve_forever()
    return 0
