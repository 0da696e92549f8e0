"""`perigee workers`: lists the workers and their states."""

from __future__ import annotations

import argparse

from google.protobuf import json_format

from services.cli.connection.admin_client import AdminClient
from services.cli.connection.gateway_address import add_operator_flags, connected
from services.cli.connection.worker_table import worker_table

_DESCRIPTION = """\
Lists the workers a gateway knows. TRANSPORT: the path of reads that each worker measured on itself at start.
PID: the process id on the worker's machine or in its container. PAGES: free or cached pages, of all pages.
QUEUED: prompt tokens not computed yet.
TLS: mtls (gateway and workers show certificates) or off (plain TCP: on loopback, or --insecure).
STATE: serving, paused (has failed requests), draining (admits no new ones), leaving (not found by discovery
any more), unreachable.
Exit status 0: every worker is reachable; 1: one is not, or there is none.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = _DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--json", action="store_true", help="print perigee.v1.ListWorkersResponse as JSON, for programs"
    )
    add_operator_flags(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Returns 1 if a worker is unreachable or there is none."""
    with connected(arguments) as channel:
        answer = AdminClient(channel).list_workers()
    if arguments.json:
        print(
            json_format.MessageToJson(
                answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        )
    else:
        print("\n".join(worker_table(answer.workers)))
    return 0 if answer.workers and all(worker.reachable for worker in answer.workers) else 1
