"""`harness completion SHELL`: a script that completes commands, options and names in a shell."""

from __future__ import annotations

import argparse

NAMES = {"protocol": "protocols", "board": "protocols", "method": "methods", "first": "methods", "second": "methods"}
"""Argument to what it names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell that the script is for")
    parser.epilog = (
        "bash: add `source <(harness completion bash)` to ~/.bashrc. zsh: write the script to a file named _harness in "
        "a folder of $fpath."
    )


def execute(args: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(_whole_parser(), shell=args.shell, preamble=_preamble()[args.shell]), end="")
    return 0


def _whole_parser() -> argparse.ArgumentParser:
    """All commands as one parser, with what completes the names of protocols and methods."""
    import importlib

    import shtab

    from harness.cli import COMMANDS

    whole = argparse.ArgumentParser(prog="harness")
    commands = whole.add_subparsers()
    for name, (module, line) in COMMANDS.items():
        parser = commands.add_parser(name, help=line)
        importlib.import_module(module).add_arguments(parser)
        for action in parser._actions:
            if action.dest in NAMES:
                function = f"_harness_{NAMES[action.dest]}"
                action.complete = {"bash": function, "zsh": function, "tcsh": ""}  # type: ignore[attr-defined]
            elif action.type is not None and getattr(action.type, "__name__", "") == "Path":
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return whole


def _preamble() -> dict[str, str]:
    """Shell functions that complete the names that are known now, besides files."""
    from harness.method.registry import method_names
    from harness.util.shipped_files import protocol_files

    names = {"protocols": " ".join(protocol_files()), "methods": " ".join(method_names())}
    return {
        "bash": "".join(f'_harness_{each}() {{ compgen -f -W "{words}" -- "$1"; }}\n' for each, words in names.items()),
        "zsh": "".join(f"_harness_{each}() {{ compadd -- {words}; _files; }}\n" for each, words in names.items()),
        "tcsh": "",
    }
