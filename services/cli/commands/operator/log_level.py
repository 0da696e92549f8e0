"""`perigee log-level`: changes what running services log."""

from __future__ import annotations

import argparse
import sys

from services.cli.connection.admin_client import AdminClient
from services.cli.connection.gateway_address import add_operator_flags, connected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Changes the log level of the gateway and all its workers, or of one of them, until it restarts. "
        "Exit status 0: all of them log at this level; 1: one does not."
    )
    parser.add_argument("level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR")
    parser.add_argument(
        "service",
        metavar="SERVICE",
        nargs="?",
        default="",
        help="`gateway`, or a worker's address or the start of its incarnation; by default all",
    )
    add_operator_flags(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Returns 1 if a service has not changed its level. Other failures raise PerigeeError."""
    with connected(arguments) as channel:
        client = AdminClient(channel)
        address = arguments.service
        if address not in ("", "gateway"):
            address = client.find(address).address
        services = client.set_log_level(arguments.level, address)
    for service in services:
        failed = bool(service.error)
        outcome = f"FAILED: {service.error}" if failed else f"logs at {arguments.level.upper()}"
        print(f"{service.address} {outcome}", file=sys.stderr if failed else None)
    return int(any(service.error for service in services))
