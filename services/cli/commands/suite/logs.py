"""`perigee logs`: the logs of a suite's services, in one stream."""

from __future__ import annotations

import argparse
import collections
import os
import signal
import sys
import threading
from collections.abc import Iterable

from services.cli.parser import check_range
from services.cli.roles import ROLES
from services.cli.run_directory.flags import add_run_dir_flag, run_directory
from services.cli.run_directory.log_files import Logs
from services.cli.run_directory.log_line import LEVELS, LogLine
from services.common.errors import NotFound

_POLL_S = 0.2
_LATEST = 20
_MOST_LINES = 1_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Shows the logs of a suite that `perigee run` started, also after its end, in the order of their "
        "times. --json shows the lines as they are, for programs."
    )
    parser.add_argument(
        "services",
        nargs="*",
        metavar="SERVICE",
        choices=ROLES,
        help=f"{', '.join(ROLES)} (default: all)",
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new lines, until Ctrl-C")
    parser.add_argument(
        "-n",
        "--lines",
        type=int,
        metavar="N",
        help=f"only the last N lines (default: all, with --follow {_LATEST})",
    )
    parser.add_argument(
        "--level", choices=LEVELS, default="debug", help="only lines of this level and worse (default: debug)"
    )
    parser.add_argument("--json", action="store_true", help="the lines as the services wrote them")
    add_run_dir_flag(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Prints lines. Raises NotFound if no suite has left logs in the directory."""
    check_range("--lines", arguments.lines, 0, _MOST_LINES)
    directory = run_directory(arguments, os.environ)
    services = arguments.services or list(ROLES)
    if not any((directory / f"{service}.log").exists() for service in services):
        raise NotFound(f"there is no log of {' or '.join(services)} in {directory}; see --run-dir")
    logs = Logs(directory, services)
    latest = arguments.lines if arguments.lines is not None else _LATEST if arguments.follow else None
    _show(logs.all_lines(), arguments, latest)
    if arguments.follow:
        # An exception could come anywhere, also where Python ignores it.
        ended = threading.Event()
        signal.signal(signal.SIGINT, lambda *_: ended.set())
        while not ended.wait(_POLL_S):
            _show(logs.new_lines(), arguments)
    return 0


def _show(lines: Iterable[LogLine], arguments: argparse.Namespace, latest: int | None = None) -> None:
    wanted: Iterable[LogLine] = (line for line in lines if line.is_at_least(arguments.level))
    if latest is not None:
        wanted = collections.deque(wanted, latest)
    for line in wanted:
        print(line.raw if arguments.json else line.shown(colours=sys.stdout.isatty()))
    sys.stdout.flush()
