"""`perigee health`: checks whether a server is serving. Imports little, for container health checks."""

from __future__ import annotations

import argparse
import asyncio

from services.cli.gateway_address import DEFAULT_ADDRESS, require_listener
from services.cli.run.readiness import why_not_serving
from services.common.errors import Unavailable
from services.common.rpc.endpoints import Endpoints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Queries grpc.health.v1 of a gateway or a worker. Exit status 0: it answers SERVING; 1: it does not "
        "within a few seconds, for the reason printed."
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
    """Raises Unavailable with the reason if the server is not serving."""
    require_listener(arguments.server, "ADDRESS")
    why = asyncio.run(why_not_serving(Endpoints("operator"), "gateway", arguments.server))
    if why is not None:
        raise Unavailable(f"{arguments.server} is not serving: {why}")
    print(f"{arguments.server} is serving")
    return 0
