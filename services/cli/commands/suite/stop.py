"""`perigee stop`: stops the suite on this machine."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from services.cli.run_directory.flags import add_run_dir_flag, run_directory
from services.cli.run_directory.lock import holder
from services.cli.run_directory.states import no_suite, read_suite
from services.common.errors import DeadlineExceeded, NotFound, PermissionDenied
from services.common.graces import SUITE_S

_POLL_S = 0.1
_SPARE_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Stops the suite that `perigee run` started on this machine, as Ctrl-C there does, and returns when "
        "it has ended. Exit status 0: it has; 1: it has not, or no suite is running."
    )
    parser.add_argument("--now", action="store_true", help="do not wait for requests: kill what is left")
    add_run_dir_flag(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Raises NotFound if no suite is running, DeadlineExceeded if it has not ended in time."""
    directory = run_directory(arguments, os.environ)
    pid = holder(directory)
    if pid is None:
        raise no_suite(directory)
    numbers = (signal.SIGTERM, signal.SIGINT) if arguments.now else (signal.SIGTERM,)
    for number in numbers:
        # Equal signals may become one, these do not.
        send(pid, number)
    until_ended(directory, pid)
    print("stopped")
    return 0


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal; one to a process that has ended does nothing. Raises PermissionDenied."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise PermissionDenied(f"process {pid} is another user's; only they can stop it") from error


def until_ended(
    directory: Path,
    pid: int,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Prints what the suite waits for, until it has ended. Raises DeadlineExceeded."""
    longest_s, shown, began = SUITE_S, "", clock()
    while holder(directory) == pid:
        try:
            suite = read_suite(directory)
        except NotFound:
            pass  # it has just ended, or has not come to write its state
        else:
            longest_s = suite.stop_seconds
            if suite.detail != shown:
                shown = suite.detail
                print(shown, flush=True)
        if clock() - began > longest_s + _SPARE_S:
            raise DeadlineExceeded(
                f"process {pid} has not ended after {clock() - began:.0f} s; `perigee stop --now` kills its"
                " services"
            )
        sleep(_POLL_S)
