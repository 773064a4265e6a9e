"""An argument parser whose errors name the nearest valid option."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import pairwise
from typing import NoReturn

from harness.util.errors import UserError, known_name, nearest, some_of, unknown


class Defaults(argparse.HelpFormatter):
    """Help in which every option says its default, unless its text does or there is none to speak of."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        without = any(action.default is each for each in (None, argparse.SUPPRESS, False)) or action.default == []
        required = not action.option_strings and action.nargs not in ("?", "*")
        if text is None or without or required or "(default" in text:
            return text
        return f"{text} (default: %(default)s)"


class RawDefaults(Defaults, argparse.RawDescriptionHelpFormatter):
    """The same, with the lines of the description and of what stands below as they are."""


class Parser(argparse.ArgumentParser):
    """argparse, but errors are raised as UserError and options must be written in full."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False, formatter_class=Defaults)
        words = self.add_argument_group("verbosity").add_mutually_exclusive_group()
        words.add_argument("-q", "--quiet", action="store_true", help="no progress and no notices, only the outcome")
        words.add_argument("-v", "--verbose", action="store_true", help="more lines of progress")

    def parse(self, words: Sequence[str]) -> argparse.Namespace | None:
        """The arguments; None where only help was asked for (and has been shown). Raises UserError."""
        known = [option for action in self._actions for option in action.option_strings]
        given = words[: words.index("--")] if "--" in words else words
        if "-h" in given or "--help" in given:
            self.print_help()
            return None
        for before, word in pairwise(["", *given]):
            if not word or re.fullmatch(r"--[\w-]+=(--)?", word):  # of '--name=--' argparse makes an empty list
                name = word.partition("=")[0] or (before if before in known else "an argument")
                raise UserError(f"{name} is empty; give a value. '{self.prog} -h' says more.")
            if "\0" in word:
                raise UserError(f"an argument holds a null byte: {word}")
        for word in given:
            # Before argparse looks: it would speak of what it then finds missing, not of the misspelt option.
            name = word.split("=")[0]
            if re.match(r"--?[A-Za-z]", name) and name not in known and not _short(name, known):
                raise unknown(f"option of '{self.prog}'", name, known)
        for action in self._actions:
            if action.choices is not None and action.type is None:
                action.type = _in_any_capitals(action.choices)
        of_one_value = {option for each in self._actions if each.nargs is None for option in each.option_strings}
        return self.parse_args(_attached(words, of_one_value))

    def error(self, message: str) -> NoReturn:
        """Raises UserError: one sentence, no usage."""
        choice = re.fullmatch(r"argument (.+): invalid choice: '(.*)' \(choose from (.*)\)", message)
        if choice:
            options = [each.strip("'") for each in choice[3].split(", ")]
            guess = nearest(choice[2], options)
            hint = f" Did you mean '{guess}'?" if guess else ""
            message = f"{choice[1]} cannot be '{choice[2]}'.{hint} Allowed: {some_of(options, choice[2])}"
        raise UserError(f"{message}. '{self.prog} -h' says more.")


def _in_any_capitals(choices: Iterable[str]) -> Callable[[str], str]:
    """Reads one of the choices, however it is capitalised; what is none of them is left for argparse to refuse."""
    return lambda text: known_name(text, choices) or text


def _attached(words: Sequence[str], options: Container[str]) -> list[str]:
    """The words, with a value that begins like a negative number (-5s) made one word with its option: argparse would
    take it for an option, and say that the other has no value."""
    found: list[str] = []
    for word in words:
        if found and found[-1] in options and "--" not in found and re.match(r"-[\d.]", word):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _short(name: str, known: Sequence[str]) -> bool:
    """Whether a word is a one-letter option with its value attached (-n5)."""
    return not name.startswith("--") and name[:2] in known
