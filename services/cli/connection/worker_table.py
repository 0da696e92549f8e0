"""Formats workers as a table of text."""

from __future__ import annotations

from collections.abc import Sequence

from perigee.v1 import admin_pb2, worker_pb2
from services.cli.connection.admin_client import role_name

_LOAD = ("RUNNING", "WAITING", "QUEUED", "PAGES")
_NUMBERS = ("PID", *_LOAD)
_HEAD = ("ROLE", "ADDRESS", "STATE", "TLS", "INCARNATION", "PID", "VERSION", "TRANSPORT", *_LOAD)
# An incarnation is a role and 32 digits. Eight identify a worker, and the commands accept them.
_SHOWN_DIGITS = 8
_UNKNOWN = "-"


def worker_table(workers: Sequence[admin_pb2.WorkerStatus]) -> list[str]:
    """Returns a header and one line per worker; columns are aligned, numbers to the right."""
    rows = [_HEAD, *(_row(worker) for worker in workers)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return ["  ".join(_aligned(row, widths)).rstrip() for row in rows]


def state_of(worker: admin_pb2.WorkerStatus) -> str:
    """Returns "unreachable", "leaving" (discovery has lost it), "draining", "paused" or "serving"."""
    if not worker.reachable:
        return "unreachable"
    if not worker.discovered:
        return "leaving"
    if worker.load.draining:
        return "draining"
    return "paused" if worker.paused else "serving"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if title in _NUMBERS else cell.ljust(width)
        for title, cell, width in zip(_HEAD, row, widths, strict=True)
    ]


def _row(worker: admin_pb2.WorkerStatus) -> tuple[str, ...]:
    tls = "mtls" if worker.mtls else "off"
    start = (role_name(worker.info.role), worker.address, state_of(worker), tls)
    if not worker.reachable:
        return (*start, *[_UNKNOWN] * (len(_HEAD) - len(start)))
    info, load = worker.info, worker.load
    return (
        *start,
        _incarnation(info.incarnation),
        str(info.pid or _UNKNOWN),
        info.version,
        _transport(info.transport),
        str(load.running),
        str(load.waiting),
        str(load.queued_tokens),
        _pages(load.pages),
    )


def _incarnation(name: str) -> str:
    role, dash, digits = name.rpartition("-")
    return role + dash + digits[:_SHOWN_DIGITS]


def _transport(report: worker_pb2.TransportReport) -> str:
    return f"{report.transport} {report.gigabytes_per_second:.1f} GB/s{' rdma' if report.rdma else ''}"


def _pages(pages: worker_pb2.PageCounts) -> str:
    total = pages.free + pages.used + pages.cached + pages.leased + pages.quarantined
    return f"{pages.free + pages.cached}/{total}"
