"""What can follow a `perigee` command line, read from its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Takes = Literal["nothing", "file", "text"]
_FILES = frozenset({"FILE", "DIR", "PATH"})


@dataclass(frozen=True)
class Flag:
    """A flag's spellings, its help in one line, and its value: `choices` if there are only these."""

    names: tuple[str, ...]
    help: str
    takes: Takes
    choices: tuple[str, ...] = ()

    @property
    def of_role(self) -> bool:
        """Whether it is a setting of one service of a suite, --ROLE.SETTING."""
        return "." in self.names[0]


@dataclass(frozen=True)
class Command:
    """A (sub)command by its words after `perigee`; `nexts`: the words that can follow, with their help.

    `files`: a file or directory can follow too.
    """

    words: tuple[str, ...]
    flags: tuple[Flag, ...]
    nexts: tuple[tuple[str, str], ...]
    files: bool

    @property
    def name(self) -> str:
        """The words as one text; empty for `perigee` itself."""
        return " ".join(self.words)

    @property
    def offered(self) -> list[tuple[str, str]]:
        """The words and flags that can follow, with their help, without settings of one service."""
        own = [(name, flag.help) for flag in self.flags if not flag.of_role for name in flag.names]
        return [*self.nexts, *own]

    @property
    def settings(self) -> list[str]:
        """The flags --ROLE.SETTING: too many to show unless somebody begins to type one."""
        return [name for flag in self.flags if flag.of_role for name in flag.names]

    @property
    def with_values(self) -> list[tuple[str, Flag]]:
        """The flags, one for each spelling, whose values are files or certain words."""
        valued = (flag for flag in self.flags if flag.takes == "file" or flag.choices)
        return [(name, flag) for flag in valued for name in flag.names]


def steps(commands: Iterable[Command]) -> list[str]:
    """Returns a shell pattern per command: the words before its last, a slash, and its last."""
    return [quoted(f"{' '.join(each.words[:-1])}/{each.words[-1]}") for each in commands if each.words]


def quoted(text: str) -> str:
    """Returns the text between single quotes for any shell; it contains none then."""
    return "'" + text.replace("'", "’") + "'"


def commands_of(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[Command]:
    """Yields the parser's command, then those of its subparsers."""
    flags, nexts, files = [], [], False
    subparsers: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            subparsers = dict(action.choices)
            nexts += [(str(each.dest), each.help or "") for each in action._choices_actions]
        elif action.option_strings and (action.help != argparse.SUPPRESS or "." in action.option_strings[0]):
            flags.append(_flag(action))
        elif not action.option_strings:
            nexts += [(str(choice), action.help or "") for choice in action.choices or ()]
            files = files or _takes(action) == "file"
    yield Command(words, tuple(flags), tuple(nexts), files)
    for name, subparser in subparsers.items():
        yield from commands_of(subparser, (*words, name))


def _flag(action: argparse.Action) -> Flag:
    text = "" if action.help in (None, argparse.SUPPRESS) else str(action.help)
    takes = "nothing" if action.nargs == 0 else _takes(action)
    return Flag(tuple(action.option_strings), _one_line(text), takes, _choices(action))


def _takes(action: argparse.Action) -> Takes:
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    return "file" if metavar in _FILES or action.dest.endswith("_dir") else "text"


def _choices(action: argparse.Action) -> tuple[str, ...]:
    if action.choices is not None:
        return tuple(map(str, action.choices))
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if metavar.startswith("{") and metavar.endswith("}"):
        return tuple(word for word in metavar[1:-1].split(",") if not word.isupper())
    return ()


def _one_line(text: str) -> str:
    """Returns the help without its default, and without what argparse would fill in."""
    return " ".join(text.replace("%%", "%").partition(" (default")[0].split())
