"""The `perigee` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from services.cli import chat_command, role_command, version_command
from services.cli.roles import ROLES
from services.cli.run import command as run_command
from services.common.errors import CheckpointError, ConfigError, PerigeeError


def build_parser() -> argparse.ArgumentParser:
    """All subcommands; each sets `execute`, a function from the parsed arguments to an exit status."""
    parser = argparse.ArgumentParser(prog="perigee", description="Kimi-K2.5 as a suite of gRPC services.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run_command.add_to(commands)
    chat_command.add_to(commands)
    for role in ROLES:
        role_command.add_to(commands, role)
    version_command.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; the exit status: 0 done, 1 failed, 2 wrong settings or arguments, 130 interrupted,
    141 nobody reads the output any more.
    """
    arguments = build_parser().parse_args(argv)
    try:
        status: int = arguments.execute(arguments)
    except PerigeeError as error:
        print(f"perigee {arguments.command}: {error.message}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError | CheckpointError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # What is still buffered must not fail again when the interpreter flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


if __name__ == "__main__":
    sys.exit(main())
