"""Parsers whose errors are one sentence, with the nearest word that would be right."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from services.common.errors import ConfigError


class Parser(argparse.ArgumentParser):
    """Prints no usage beside an error: that of `run` would fill the screen. Flags cannot be abbreviated."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})
        self.register("type", int, _whole_number)
        self.register("type", float, _number)

    def error(self, message: str) -> NoReturn:
        """Ends the process with status 2."""
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # None of several words, where none need be there, is checked as an empty list.
        if action.choices is None or value == [] or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        raise argparse.ArgumentError(
            action, f"{value!r} is not {_nearest(str(value), known) or 'one of ' + ', '.join(known)}"
        )

    def reached(self, words: Sequence[str]) -> Parser:
        """Returns the parser of the last subcommand that these words name."""
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for index, word in enumerate(words):
                    found = action.choices.get(word)
                    if isinstance(found, Parser):
                        return found.reached(words[index + 1 :])
        return self

    def flags(self) -> list[str]:
        """Returns all flags that users may give: those in the help, and of `run` those of each service."""
        return [
            flag
            for action in self._actions
            for flag in action.option_strings
            if action.help != argparse.SUPPRESS or "." in flag
        ]


def check_range(flag: str, value: float | None, least: float, most: float) -> None:
    """Raises ConfigError for a number that is not `least` to `most`; None, a flag not given, is allowed."""
    if value is not None and not least <= value <= most:
        raise ConfigError(f"{flag}: must be {least:,} to {most:,}, is {value:,}")


def unknown(extras: Sequence[str], parser: Parser) -> ConfigError:
    """Returns the error for words that `parser` does not know."""
    flag = next((word for word in extras if word.startswith("-")), None)
    if flag is None:
        return ConfigError(f"unexpected {extras[0]!r}; see `{parser.prog} --help`")
    flag = flag.partition("=")[0]
    known = [each for each in parser.flags() if ".no-" not in each or ".no-" in flag]
    return ConfigError(f"unknown flag {flag}{_nearest_flags(flag, known)}; see `{parser.prog} --help`")


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _nearest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"known; did you mean {close[0]}?" if close else ""


def _nearest_flags(flag: str, known: Sequence[str]) -> str:
    """Returns the flags with the nearest name: of `run` one for each service that has the setting."""
    by_name: dict[str, list[str]] = {}
    for each in known:
        by_name.setdefault(_name(each), []).append(each)
    exact = difflib.get_close_matches(flag, known, n=1, cutoff=0.85)
    close = difflib.get_close_matches(_name(flag), list(by_name), n=1)
    found = exact or [each for name in close for each in by_name[name]]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _name(flag: str) -> str:
    return flag.lstrip("-").rpartition(".")[2]
