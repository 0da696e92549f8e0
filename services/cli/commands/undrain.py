"""`perigee undrain`: put a drained worker back into rotation."""

from __future__ import annotations

import argparse

from services.cli.admin_client import AdminClient, describe
from services.cli.gateway_address import add_operator_flag, connected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "Puts a worker that was drained back into rotation. One that serves is left as it is; one that is "
        "stopping cannot come back. Exit status 0: it takes requests; 1: not so."
    )
    parser.add_argument("worker", metavar="WORKER", help="address or beginning of the incarnation")
    add_operator_flag(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Failures are PerigeeErrors."""
    with connected(arguments.address) as channel:
        client = AdminClient(channel)
        worker = client.find(arguments.worker)
        client.undrain(worker.address)
        print(f"{describe(worker)} takes requests")
    return 0
