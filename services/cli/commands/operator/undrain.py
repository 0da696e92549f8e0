"""`perigee undrain`: puts a drained worker back into rotation."""

from __future__ import annotations

import argparse

from services.cli.connection.admin_client import AdminClient, describe
from services.cli.connection.gateway_address import add_operator_flags, connected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Puts a drained worker back into rotation. A worker that serves already is not changed; one that is "
        "stopping cannot be put back. Exit status 0: it admits requests; 1: it does not."
    )
    parser.add_argument("worker", metavar="WORKER", help="address or start of the incarnation")
    add_operator_flags(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Undrains the worker. Failures raise PerigeeError."""
    with connected(arguments) as channel:
        client = AdminClient(channel)
        worker = client.find(arguments.worker)
        client.undrain(worker.address)
        print(f"{describe(worker)} admits requests")
    return 0
