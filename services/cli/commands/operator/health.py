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
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--alive",
        action="store_true",
        help="exit status 0 if it answers, also if it does not serve: whether a restart would help",
    )
    which.add_argument(
        "--ability",
        default="",
        metavar="NAME",
        help="ask whether it serves NAME; of a gateway: text, images, or workers (one of each of its roles)",
    )
    add_peer_flags(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Raises Unavailable with the reason if the server does not serve or, with --alive, does not answer."""
    # A container asks itself with the certificate that it has.
    endpoints = Endpoints("operator", Security.of(arguments, *ROLES))
    require_listener(arguments.server, "ADDRESS")
    why, draining = asyncio.run(_state(endpoints, arguments.role, arguments.server, arguments.ability))
    answer = f"is not serving: {_DRAINING if draining else why}"
    if why is None:
        answer = f"is serving{f', {_DRAINING}' if draining else ''}"
    elif not (arguments.alive and why == NOT_SERVING):
        raise Unavailable(f"{arguments.server} {answer}")
    print(f"{arguments.server} {answer}")
    return 0


async def _state(endpoints: Endpoints, role: Role, server: str, ability: str) -> tuple[str | None, bool]:
    """Returns why the server does not serve `ability`, None if it does, and whether it is draining."""
    why = await why_not_serving(endpoints, role, server, ability)
    # A server that does not answer is not asked again.
    answers = why is None or why == NOT_SERVING
    return why, answers and await why_not_serving(endpoints, role, server, DRAINING) is None
