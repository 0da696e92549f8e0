"""The `perigee` command."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Collection, Sequence
from typing import Any

from services.cli.command_table import COMMANDS
from services.cli.parser import Parser, unknown
from services.common.errors import CheckpointError, ConfigError, PerigeeError

_OURS = ("perigee", "services", "kernels", "")
_ALL_SERVICES = "what all services need: pip install 'perigee[gateway,worker,video]'"


class _Version(argparse.Action):
    """Prints the version when it is asked for: reading it takes longer than parsing."""

    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any) -> None:
        print(f"perigee {importlib.metadata.version('perigee')}")
        parser.exit()


def build_parser(chosen: Collection[str] = ()) -> Parser:
    """Returns a parser with all subcommands; only `chosen` ones get their arguments.

    It sets `execute`, a function from the parsed arguments to an exit status.
    """
    parser = Parser(prog="perigee", description="Kimi-K2.5 as a suite of gRPC services.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version of Perigee")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, purpose) in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=f"{purpose}.")
        if name in chosen:
            importlib.import_module(module).add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0: done; 1: failed; 2: wrong settings or arguments; 130: interrupted; 141: the reader of the output left.
    """
    # gRPC writes lines of its own to stderr, e.g. for every TLS handshake that somebody begins and drops.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    words = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    chosen = next((word for word in words if not word.startswith("-")), "")
    try:
        return _run(words, chosen)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in _OURS:
            raise
        print(f"perigee {chosen}: {package} is not installed; {_ALL_SERVICES}", file=sys.stderr)
        return 2


def _run(words: Sequence[str], chosen: str) -> int:
    parser = build_parser({chosen})
    arguments, extras = parser.parse_known_args(words)
    try:
        if extras:
            raise unknown(extras, parser.reached(words))
        status: int = arguments.execute(arguments)
    except PerigeeError as error:
        print(f"perigee {arguments.command}: {error.message}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError | CheckpointError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The interpreter's flush of buffered output at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


if __name__ == "__main__":
    sys.exit(main())
