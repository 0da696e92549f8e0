"""`perigee restart`: replaces services of the suite on this machine."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from services.cli.commands.suite.stop import send
from services.cli.roles import ROLES
from services.cli.run_directory.flags import add_run_dir_flag, run_directory
from services.cli.run_directory.states import ServiceState, SuiteState, read_suite
from services.common.errors import DeadlineExceeded, NotFound, PreconditionFailed

_POLL_S = 0.1
# A successor is tried so often before the worker ends without one.
_STARTS = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Replaces services of the suite that `perigee run` started, one after the other, and returns when "
        "the new ones serve. A worker serves until its successor does, where there is room for both; the "
        "gateway finishes its requests and starts again. Exit status 0: all serve again; 1: one does not."
    )
    parser.add_argument(
        "services",
        nargs="*",
        metavar="SERVICE",
        choices=ROLES,
        help=f"{', '.join(ROLES)} (default: all)",
    )
    add_run_dir_flag(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Raises NotFound if no suite is running or it has no such service; else as `restart` does."""
    directory = run_directory(arguments, os.environ)
    present = [service.role for service in read_suite(directory).services]
    for role in arguments.services:
        if role not in present:
            raise NotFound(f"the suite has no {role}; it has {', '.join(present)}")
    for role in arguments.services or present:
        restart(directory, role)
    return 0


def restart(
    directory: Path,
    role: str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Has the suite replace a service; prints what happens until the new process serves.

    Raises PreconditionFailed unless it serves now, DeadlineExceeded if the new one does not in time.
    """
    suite = read_suite(directory)
    before = service = _service(suite, role)
    if before.state != "serving" or before.pid is None:
        raise PreconditionFailed(f"{role} is {before.state} ({before.detail}); wait until it serves")
    if not _is_child(before.pid, suite.pid):
        raise PreconditionFailed(
            f"{role}, process {before.pid}, has just ended; `perigee run` starts it again"
        )
    send(before.pid, signal.SIGTERM)
    began, longest_s = clock(), suite.stop_seconds + _STARTS * suite.start_seconds
    while service.pid == before.pid or service.state != "serving":
        if clock() - began > longest_s:
            raise DeadlineExceeded(
                f"{role} does not serve again after {longest_s:.0f} s ({service.detail}); see `perigee logs"
                f" {role}`"
            )
        sleep(_POLL_S)
        former, service = service, _service(read_suite(directory), role)
        # While it loads, only the seconds change.
        if service.detail.partition("…")[0] != former.detail.partition("…")[0]:
            print(f"{role}: {service.detail}", flush=True)


def _service(suite: SuiteState, role: str) -> ServiceState:
    return next(service for service in suite.services if service.role == role)


def _is_child(pid: int, parent: int) -> bool:
    """Whether the process is (still) one of the suite's: numbers are used again."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return int(fields[1]) == parent
