"""`perigee drain`: take a worker out of rotation."""

from __future__ import annotations

import argparse
import time

from perigee.v1 import admin_pb2
from services.cli.connection.admin_client import AdminClient, describe
from services.cli.connection.gateway_address import add_operator_flags, connected
from services.common.errors import ConfigError, DeadlineExceeded

_POLL_S = 0.2
_LONGEST_WAIT_S = 86_400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Takes a worker out of rotation: it admits no new requests, finishes those it has and keeps serving "
        "reads of its memory. `perigee undrain` or a restart brings it back. Exit status 0: accepted and, "
        "with --wait-seconds, all requests finished; 1: otherwise."
    )
    parser.add_argument("worker", metavar="WORKER", help="address or start of the incarnation")
    parser.add_argument(
        "--wait-seconds",
        type=float,
        metavar="X",
        help="wait until all its requests have finished, at most this long",
    )
    parser.add_argument("--wait", dest="wait_seconds", type=float, help=argparse.SUPPRESS)
    parser.add_argument(
        "--force",
        action="store_true",
        help="drain it even if no other worker of its role serves; requests for the role are refused then",
    )
    add_operator_flags(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Drains the worker. Raises DeadlineExceeded if requests are left after the wait."""
    wait_s = arguments.wait_seconds
    if wait_s is not None and not 0 <= wait_s <= _LONGEST_WAIT_S:
        raise ConfigError(f"--wait-seconds must be from 0 to {_LONGEST_WAIT_S} seconds, is {wait_s:g}")
    with connected(arguments) as channel:
        client = AdminClient(channel)
        worker = client.find(arguments.worker)
        outstanding = client.drain(worker.address, force=arguments.force)
        print(f"{describe(worker)} admits no new requests; {_requests(outstanding)} outstanding")
        print(f"`perigee undrain {worker.address}` puts it back into rotation", flush=True)
        if wait_s is not None:
            print(_until_idle(client, worker, wait_s))
    return 0


def _until_idle(client: AdminClient, worker: admin_pb2.WorkerStatus, wait_s: float) -> str:
    """Polls until the worker is idle or gone; returns the outcome as text."""
    began = time.monotonic()
    while True:
        now = next((each for each in client.list_workers().workers if each.address == worker.address), None)
        elapsed = time.monotonic() - began
        if now is None or not now.reachable or now.info.incarnation != worker.info.incarnation:
            return f"gone after {elapsed:.1f} s"
        # A report from before the drain may not include requests sent just before it.
        if now.load.draining and not now.load.running and not now.load.waiting:
            return f"all requests finished after {elapsed:.1f} s"
        if elapsed >= wait_s:
            left = now.load.running + now.load.waiting
            raise DeadlineExceeded(f"{describe(worker)}: {_requests(left)} left after {wait_s:g} s")
        time.sleep(min(_POLL_S, wait_s - elapsed))


def _requests(count: int) -> str:
    return f"{count} request{'' if count == 1 else 's'}"
