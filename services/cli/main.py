"""The `perigee` command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from services.cli.roles import ROLES
from services.common.errors import CheckpointError, ConfigError, PerigeeError

# Name: the module with `add_arguments`, and the help text. Only the chosen command's module is imported: a
# health check that runs every few seconds must not load the others' dependencies.
_COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "run": (
            "services.cli.run.command",
            "run gateway, vision, prefill and decode on this machine",
        ),
        "serve": (
            "services.cli.commands.suite.serve",
            "like run, with the flags of SGLang's command lines for this model",
        ),
        "chat": (
            "services.cli.commands.chat",
            "ask a running suite a question; the answer streams over gRPC",
        ),
        "workers": (
            "services.cli.commands.operator.workers",
            "list the workers a gateway knows, and their states",
        ),
        "transfer-check": (
            "services.cli.commands.operator.transfer_check",
            "check transport, speed and checksums of reads between two workers",
        ),
        "drain": ("services.cli.commands.operator.drain", "take a worker out of rotation"),
        "undrain": ("services.cli.commands.operator.undrain", "put a drained worker back into rotation"),
        "flush": ("services.cli.commands.operator.flush", "drop the workers' cached pages and embeddings"),
        "checkpoint": (
            "services.cli.commands.checkpoint",
            "check a checkpoint without loading it, or write a random one",
        ),
        "certs": ("services.cli.commands.certs", "make certificates to try mTLS with"),
        "keys": ("services.cli.commands.keys", "make, list and revoke API keys"),
        "health": ("services.cli.commands.operator.health", "check whether a server is serving"),
        **{role: ("services.cli.commands.role", f"run one {role} service in this process") for role in ROLES},
        "version": (
            "services.cli.commands.version",
            "print the versions of Perigee and its main dependencies",
        ),
    }
)


def build_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Returns a parser with all subcommands; only `chosen` gets its arguments.

    It sets `execute`, a function from the parsed arguments to an exit status.
    """
    parser = argparse.ArgumentParser(prog="perigee", description="Kimi-K2.5 as a suite of gRPC services.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, purpose) in _COMMANDS.items():
        command = commands.add_parser(name, allow_abbrev=False, help=purpose, description=f"{purpose}.")
        if name == chosen:
            importlib.import_module(module).add_arguments(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status.

    0: done; 1: failed; 2: wrong settings or arguments; 130: interrupted; 141: the reader of the output left.
    """
    # gRPC writes lines of its own to stderr, e.g. for every TLS handshake that somebody begins and drops.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    words = sys.argv[1:] if argv is None else argv
    chosen = next((word for word in words if not word.startswith("-")), None)
    arguments = build_parser(chosen).parse_args(words)
    try:
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
