"""`perigee completion`: prints a completion script for a shell."""

from __future__ import annotations

import argparse
from types import MappingProxyType

from services.cli.completion import bash, fish, zsh
from services.cli.completion.words import commands_of

_USE = """\
Prints a script that completes commands, flags and their values:

  bash   source <(perigee completion bash)             in ~/.bashrc
  zsh    source <(perigee completion zsh)              in ~/.zshrc, after compinit
  fish   perigee completion fish | source              in ~/.config/fish/config.fish
"""

_SCRIPTS = MappingProxyType({"bash": bash.script, "zsh": zsh.script, "fish": fish.script})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = _USE
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=tuple(_SCRIPTS), metavar="SHELL", help="bash, zsh or fish")
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Prints the script, which knows every command's present flags."""
    # Imported here: it imports the modules of all commands.
    from services.cli.command_table import COMMANDS
    from services.cli.main import build_parser

    parser = build_parser(COMMANDS)
    print(_SCRIPTS[arguments.shell](list(commands_of(parser))), end="")
    return 0
