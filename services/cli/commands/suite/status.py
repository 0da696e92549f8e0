"""`perigee status`: how the suite on this machine is."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time

from services.cli.process_memory import resident_bytes
from services.cli.run_directory.flags import add_run_dir_flag, run_directory
from services.cli.run_directory.states import ServiceState, SuiteState, read_suite

_HEAD = ("SERVICE", "STATE", "PID", "SINCE", "STARTS", "MEMORY", "ADDRESS")
_NUMBERS = ("PID", "SINCE", "STARTS", "MEMORY")
_WITHOUT_PROCESS = ("restarting", "failed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.description = (
        "Shows the services of the suite that `perigee run` started on this machine, as it sees them. SINCE: "
        "how long the state has lasted. STARTS: processes so far. MEMORY: resident, of the service's first "
        "process. Exit status 0: every service serves; 1: one does not, or no suite is running."
    )
    parser.add_argument("--json", action="store_true", help="everything as JSON, for programs")
    add_run_dir_flag(parser)
    parser.set_defaults(execute=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Returns 1 unless every service serves. Raises NotFound if no suite is running."""
    directory = run_directory(arguments, os.environ)
    suite = read_suite(directory)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(suite), indent=2))
    else:
        print("\n".join(status_lines(suite, time.time())))
        print(f"logs in {directory}: perigee logs")
    return 0 if suite.serves else 1


def status_lines(suite: SuiteState, now: float) -> list[str]:
    """Returns the lines for people; `now`: Unix time."""
    rows = [_HEAD, *(_row(service, now) for service in suite.services)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return [
        f"{suite.model}, up {duration(now - suite.since)}, process {suite.pid}",
        *(f"{detail}" for detail in [suite.detail] if detail),
        *(
            "  ".join(
                cell.rjust(width) if title in _NUMBERS else cell.ljust(width)
                for title, cell, width in zip(_HEAD, row, widths, strict=True)
            ).rstrip()
            for row in rows
        ),
        *(
            f"{service.role}: {service.detail}"
            for service in suite.services
            if service.state not in ("serving", "stopping")
        ),
        f"REST {suite.rest}/v1, gRPC {suite.grpc}, operator {suite.operator}",
    ]


def duration(seconds: float) -> str:
    """Returns a duration in its two largest units, e.g. "3 min 5 s"."""
    whole = max(0, int(seconds))
    units = (("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60))
    first = next((index for index, (_, count) in enumerate(units) if count), len(units) - 1)
    return " ".join(f"{count} {unit}" for unit, count in units[first : first + 2])


def _row(service: ServiceState, now: float) -> tuple[str, ...]:
    runs = service.pid is not None and service.state not in _WITHOUT_PROCESS
    return (
        service.role,
        service.state,
        str(service.pid) if runs else "-",
        duration(now - service.since),
        str(service.starts),
        _memory(service.pid) if runs and service.pid is not None else "-",
        service.address,
    )


def _memory(pid: int) -> str:
    try:
        return f"{resident_bytes(pid) / 1e6:,.0f} MB"
    except (OSError, LookupError):
        return "-"
