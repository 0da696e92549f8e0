"""Measures how fast pages arrive from another process, against bare NIXL and a copy in memory.

python -m benchmarks.kv_transfer [--device cpu|cuda:0] [--pages 256] [--layers 8] [--rounds 9] [--bound 0.85]

One process offers a pool of pages in its own memory, or in that of the GPU. In a second process the same
entries, in random order, are read by a worker's transfer thread and by a NIXL agent that does nothing else,
and as many bytes are copied within that process, one after the other in every round. All bytes are compared
with those of the source. Then they are read once into memory of the host, where a worker has embeddings.
Exits with 1 if bytes differ, a read fails, or ours reaches less of bare NIXL than the bound. On a GPU it
prints "not run" if bare NIXL cannot move its memory, and writes `nixl.csv` and `nixl.md` for it.
"""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.child import Blocked, Child, Wrong
from benchmarks.result import write_result
from benchmarks.transfer_plan import Plan
from kernels.benchmarks.limit import ROWS_S
from kernels.benchmarks.report import RESULTS, Report, results_of
from kernels.benchmarks.wheels import not_installed

BOUND = 0.85
WAYS = "benchmarks.transfer_ways"


@dataclass
class Row:
    """The result of one way."""

    way: str
    verdict: str = "not run"
    gigabytes_per_second: str = ""
    times_bare: str = ""
    percent_of_reads: str = ""
    note: str = ""


class Transfer:
    """Both processes; nothing is loaded in this one that could crash it."""

    def __init__(self, plan: Plan, seconds: float = ROWS_S) -> None:
        self._plan = plan
        self._end = time.monotonic() + seconds
        self.device_name = ""
        """Known once the source has started."""

    def run(self) -> dict[str, Any]:
        """The reader's findings; see Child for the errors."""
        with closing(Child("source", WAYS, "serve", self._plan)) as source:
            self.device_name = source.receive(self._end)
            offer = source.receive(self._end)
            with closing(Child("reader", WAYS, "read", self._plan, offer)) as reader:
                return dict(reader.receive(self._end, source))


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv_transfer", description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pages", type=int, default=256)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--bound", type=float, default=BOUND, help="ours over bare NIXL, at least")
    parser.add_argument("--seconds", type=float, default=ROWS_S, help="give up after so long")
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the table")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="of GPUs, instead of beside the kernels"
    )
    options = parser.parse_args(argv)
    plan = Plan(options.device, options.pages, options.layers, options.rounds)
    if plan.on_gpu:
        return check_on_gpu(plan, options.results, options.seconds, options.bound)
    found = Transfer(plan, options.seconds).run()
    print(Report(None, "nixl", Row).write(_facts(found, options.bound), _rows(found)))
    write_result(options.out, found)
    return _status(found, options.bound)


def check_on_gpu(plan: Plan, results: Path, seconds: float = ROWS_S, bound: float = BOUND) -> int:
    """Prints the findings, and writes them below `results`. Returns 1 if something is wrong, but 0 if NIXL
    cannot run here.
    """
    if reason := not_installed("torch", "nixl"):
        print(f"kv transfer: not run: {reason}")
        return 0
    transfer = Transfer(plan, seconds)
    try:
        found = transfer.run()
    except Blocked as blocked:
        print(f"kv transfer: not run: {blocked}")
        _write(transfer, results, {}, [Row("NIXL", note=str(blocked))])
        return 0
    except Wrong as wrong:
        print(f"kv transfer: {wrong}")
        _write(transfer, results, {}, [Row("NIXL", "WRONG", note=str(wrong))])
        return 1
    print(_write(transfer, results, _facts(found, bound), _rows(found)))
    return _status(found, bound)


def _write(transfer: Transfer, results: Path, facts: dict[str, str], rows: list[Row]) -> str:
    """Writes the report; nowhere if the device's name is unknown."""
    name = transfer.device_name
    report = Report(results_of(name, results) if name else None, "nixl", Row)
    return report.write({"device": name, **facts}, rows)


def _status(found: dict[str, Any], bound: float) -> int:
    return int(found["ours_to_bare"] < bound or isinstance(found["into_host"], str))


def _facts(found: dict[str, Any], bound: float) -> dict[str, str]:
    reads, into_host = found["reads"], found["into_host"]
    return {
        "moved": f"{found['megabytes']:,.0f} MB in {found['entries']:,} entries on {found['device']}",
        "transport": found["transport"],
        "into host memory": into_host if isinstance(into_host, str) else f"{into_host:.2f} GB/s",
        "reads": reads if isinstance(reads, str) else f"{reads / 1e9:,.0f} GB/s",
        "median ratio of a round": f"{found['ours_to_bare']:.2f} of bare NIXL (bound {bound})",
    }


def _rows(found: dict[str, Any]) -> list[Row]:
    rates, reads = found["gigabytes_per_second"], found["reads"]
    bare = rates["bare NIXL"]
    return [
        Row(
            way,
            "right",
            f"{rate:.2f}",
            f"{rate / bare:.2f}",
            "" if isinstance(reads, str) else f"{100e9 * rate / reads:.0f}",
        )
        for way, rate in rates.items()
    ]


if __name__ == "__main__":
    raise SystemExit(main())
