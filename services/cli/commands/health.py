"""`perigee health`: is a server serving? For container health checks, so it loads little."""

from __future__ import annotations

import argparse
import asyncio

from services.cli.gateway_address import DEFAULT_ADDRESS, require_listener
from services.cli.run.readiness import why_not_serving
from services.common.errors import Unavailable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "Asks grpc.health.v1 of a gateway or a worker. Exit status 0: it answers SERVING; 1: it does not "
        "within a few seconds, and one line says why."
    )
    parser.add_argument(
        "server",
        nargs="?",
        default=DEFAULT_ADDRESS,
        metavar="ADDRESS",
        help=f"host:port of its gRPC server (default: {DEFAULT_ADDRESS}, the gateway)",
    )
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Raises Unavailable saying what is wrong."""
    require_listener(arguments.server, "ADDRESS")
    why = asyncio.run(why_not_serving(arguments.server))
    if why is not None:
        raise Unavailable(f"{arguments.server} is not serving: {why}")
    print(f"{arguments.server} is serving")
    return 0
