"""`perigee flush`: drop the workers' cached pages and embeddings."""

from __future__ import annotations

import argparse
import sys

from perigee.v1 import admin_pb2
from services.cli.connection.admin_client import AdminClient, role_name
from services.cli.connection.gateway_address import add_operator_flags, connected


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Makes every worker drop its cached pages and embeddings, except those that running requests hold. "
        "Exit status 0: every worker was flushed; 1: one was not, or there is none."
    )
    add_operator_flags(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Returns 1 if a worker was not flushed or there is none."""
    with connected(arguments) as channel:
        workers = AdminClient(channel).flush()
    for worker in workers:
        failed = bool(worker.error)
        print(
            f"{role_name(worker.role)} {worker.address} {_outcome(worker)}",
            file=sys.stderr if failed else None,
        )
    if not workers:
        print("the gateway knows no worker", file=sys.stderr)
    return 0 if workers and not any(worker.error for worker in workers) else 1


def _outcome(worker: admin_pb2.FlushedWorker) -> str:
    if worker.error:
        return f"FAILED: {worker.error}"
    embeddings = f" of {worker.embeddings} embeddings" if worker.embeddings else ""
    return f"dropped {worker.pages} pages{embeddings}"
