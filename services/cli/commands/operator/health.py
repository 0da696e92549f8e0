"""`perigee health`: checks whether a server is serving. Imports little, for container health checks."""

from __future__ import annotations

import argparse
import asyncio

from services.cli.connection.gateway_address import OPERATOR_ADDRESS, add_peer_flags, require_listener
from services.cli.run.readiness import why_not_serving
from services.common.errors import Unavailable
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.tls.security import Security
from services.common.rpc.tls.trust_domain import ROLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Queries grpc.health.v1 of a gateway or a worker. Exit status 0: it answers SERVING; 1: it does not "
        "within a few seconds, for the reason printed."
    )
    parser.add_argument(
        "server",
        nargs="?",
        default=OPERATOR_ADDRESS,
        metavar="ADDRESS",
        help=f"host:port of its gRPC server (default: {OPERATOR_ADDRESS}, the gateway's operator port)",
    )
    parser.add_argument(
        "--role",
        choices=[role for role in ROLES if role != "operator"],
        default="gateway",
        help="with a certificate: what the server must be (default: gateway)",
    )
    add_peer_flags(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Raises Unavailable with the reason if the server is not serving."""
    # A container asks itself with the certificate that it has.
    endpoints = Endpoints("operator", Security.of(arguments, *ROLES))
    require_listener(arguments.server, "ADDRESS")
    why = asyncio.run(why_not_serving(endpoints, arguments.role, arguments.server))
    if why is not None:
        raise Unavailable(f"{arguments.server} is not serving: {why}")
    print(f"{arguments.server} is serving")
    return 0
