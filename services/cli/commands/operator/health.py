"""`perigee health`: checks whether a server is serving. Imports little, for container health checks."""

from __future__ import annotations

import argparse
import asyncio

from services.cli.connection.gateway_address import OPERATOR_ADDRESS, add_peer_flags, require_listener
from services.cli.run.readiness import NOT_SERVING, why_not_serving
from services.common.errors import Unavailable
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.health import DRAINING
from services.common.rpc.role import Role
from services.common.rpc.tls.security import Security
from services.common.rpc.tls.trust_domain import ROLES

_DRAINING = "draining: it admits no new requests and finishes those it has"


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
    why, draining = asyncio.run(_state(endpoints, arguments.role, arguments.server))
    if why is not None:
        raise Unavailable(f"{arguments.server} is not serving: {_DRAINING if draining else why}")
    print(f"{arguments.server} is serving{f', {_DRAINING}' if draining else ''}")
    return 0


async def _state(endpoints: Endpoints, role: Role, server: str) -> tuple[str | None, bool]:
    """Returns why the server does not serve, None if it does, and whether it is draining."""
    why = await why_not_serving(endpoints, role, server)
    # A server that does not answer is not asked again.
    answers = why is None or why == NOT_SERVING
    return why, answers and await why_not_serving(endpoints, role, server, DRAINING) is None
