"""The command `harness`: a table of sub-commands, each imported only when it is used."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import sys
import textwrap

from harness import __version__
from harness.cli.notices import show_notices
from harness.cli.parser import Parser
from harness.cli.text_table import message
from harness.util import progress
from harness.util.errors import HarnessError, UserError, known_name, unknown
from harness.util.exits import exit_call, exits_raised
from harness.util.faults import told
from harness.util.launch import another_says_it
from harness.util.option_names import named_for_shell
from harness.util.shown_text import shortened, shown
from harness.util.signals import interrupting
from harness.util.text import replace_unencodable

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("harness.cli.run", "train a method on a protocol, score it, add the row to the board"),
    "sweep": ("harness.cli.sweep", "run a grid of protocols, methods, options and seeds; go on where it was left"),
    "validate": ("harness.cli.validate", "check protocol and recipe files; show every error with its line"),
    "lint": ("harness.cli.lint", "find flaws in a valid protocol: shortcuts that need no images, leaks between splits"),
    "schema": ("harness.cli.schema", "print the JSON Schema of protocol, recipe or sweep files, for editors"),
    "recipe": (
        "harness.cli.recipe",
        "show how a method is trained on a protocol: stages, rates, time, what is left out",
    ),
    "show": ("harness.cli.show", "show an episode as a timeline, or what there is to know of a method"),
    # Not named after its command: a submodule `list` would take the place of the built-in in this package.
    "list": ("harness.cli.listing", "list protocols, methods and data sets"),
    "export": ("harness.cli.export", "write the episodes of a protocol to a file, for use elsewhere"),
    "board": ("harness.cli.board", "show the leaderboard of a protocol, or of all"),
    "table": ("harness.cli.table", "show a table of a paper, measured beside published numbers"),
    "report": (
        "harness.cli.report",
        "write web pages of boards and runs, to be opened from disk, mailed or put on a server",
    ),
    "view": ("harness.cli.view", "show boards and runs in a browser, as they are now"),
    "compare": ("harness.cli.compare", "compare two methods of a board on the same episodes (paired)"),
    "verify": ("harness.cli.verify", "re-score rows of a board from their weights, and compare"),
    "submit": ("harness.cli.submit", "verify a finished run and add it to the board"),
    "completion": ("harness.cli.completion", "print a script that completes commands and names in a shell"),
    "new-method": ("harness.cli.new_method", "write a template of a method, with its recipe and its test"),
    "check": ("harness.cli.check", "test that a method conforms to the interface: causality, isolation, label timing"),
}

_WRONG_PLACES = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
"""What the system says of a file or folder that cannot be the one that was meant."""

_ABOUT = (
    "A declarative episode-protocol benchmark harness: a protocol (YAML) declares what a method sees, when labels "
    "arrive and what is scored; any method that implements one small interface is trained and scored on it."
)

_OPTIONS = {
    "-h, --help": "show this help; 'harness COMMAND -h' or 'harness help COMMAND' shows that of a command",
    "--version": "show the version",
    "--debug": "show the traceback of an error",
    "-q, -v": "say less, or more, while a command works",
}


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; returns the exit code (2: wrong use, 1: a run failed, 3: a check failed)."""
    replace_unencodable(sys.stdout, sys.stderr)
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        with interrupting(), exits_raised(), named_for_shell():
            code = _dispatch(words)
        sys.stdout.flush()
        return code
    except HarnessError as error:
        if debug:
            raise
        if not another_says_it():
            print(message(f"harness: error: {shortened(shown(str(error)))}"), file=sys.stderr)
        return error.exit_code
    except SystemExit as error:  # from code of the user's: no command of the harness ends so
        if debug:
            raise
        print(message(f"harness: error: a method or plugin called {shown(exit_call(error))}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if debug:
            raise
        if not another_says_it():
            print("harness: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the pipe (head, less) has seen enough. Python would complain once more when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if debug:
            raise
        wrong_place = error.errno in _WRONG_PLACES and error.filename is not None
        where = f": {shortened(shown(str(error.filename)))}" if error.filename else ""
        hint = "" if wrong_place else " (--debug shows where it happened)"
        print(message(f"harness: error: {error.strerror or error}{where}{hint}"), file=sys.stderr)
        return UserError.exit_code if wrong_place else 1
    except Exception as error:
        said = None if debug else told(error)
        if said is None:  # no code of the user's took part: a fault of the harness, to be reported with its traceback
            raise
        print(message(f"harness: error: {shortened(shown(said))}\n(--debug shows the traceback)"), file=sys.stderr)
        return 1


def _dispatch(words: list[str]) -> int:
    if not words:
        print(_help(), end="", file=sys.stderr)
        return 2
    name, *rest = words
    if name in {"-h", "--help"}:
        print(_help(), end="")
        return 0
    if name == "--version":
        print(f"harness {__version__}")
        return 0
    if name == "help":
        name, rest = (rest[0], ["-h"]) if rest else ("-h", [])
        return _dispatch([name, *rest])
    known = known_name(name, COMMANDS)
    if known is None:
        raise unknown("option" if name.startswith("-") else "command", name, [*COMMANDS, *_top_options(name)])
    name = known
    module, line = COMMANDS[name]
    command = importlib.import_module(module)
    parser = Parser(prog=f"harness {name}", description=f"{line[0].upper()}{line[1:]}.")
    command.add_arguments(parser)
    args = parser.parse(rest)
    if args is None:
        return 0
    level = progress.QUIET if args.quiet else progress.VERBOSE if args.verbose else progress.NORMAL
    show_notices(level)
    with progress.shown(level):
        return int(command.execute(args))


def _top_options(name: str) -> list[str]:
    return ["--help", "--version", "--debug"] if name.startswith("-") else []


def _help() -> str:
    width = shutil.get_terminal_size().columns
    parts = {"commands": {name: line for name, (_, line) in COMMANDS.items()}, "options": _OPTIONS}
    lines = ["usage: harness COMMAND ...", "", textwrap.fill(_ABOUT, width), ""]
    for heading, rows in parts.items():
        column = max(map(len, rows)) + 4
        described = (
            textwrap.fill(
                f"  {name:<{column - 4}}  {line}", width, subsequent_indent=column * " ", break_on_hyphens=False
            )
            for name, line in rows.items()
        )
        lines += [f"{heading}:", *described, ""]
    return "\n".join([*lines, "To get started:  harness list    and    harness show cifarfs_delay5", ""])
