"""Runs the steps of a call, one process after another, and records what each one finds."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.gpu_first.findings import read_findings
from benchmarks.gpu_first.process import Ending, run_process
from benchmarks.gpu_first.record import Record
from benchmarks.gpu_first.steps import MACHINE, Call, Step

ROOT = Path(__file__).parents[2]
_MARGIN_S = 20.0
"""Seconds of a step's limit in which it begins no new row."""
_EXIT_S = 3.0
"""Seconds of a step's limit in which its process ends by itself."""
_ENDING_S = 10.0
"""Seconds of a call's limit that are kept for the end of a step that is killed."""
_LEAST_S = 5.0


@dataclass(frozen=True)
class Place:
    """Where a run leaves its results: the JSON, the log and the trace."""

    directory: Path

    @property
    def record(self) -> Path:
        """The JSON."""
        return self.directory / "gpu_first.json"

    @property
    def log(self) -> Path:
        """What all steps print."""
        return self.directory / "gpu_first.log"

    @property
    def trace(self) -> Path:
        """The profiler's trace, for chrome://tracing or Perfetto."""
        return self.directory / "gpu_first.trace.json.gz"


class Runner:
    """Runs steps within a call's time. `env`: of the steps' processes; `rehearses`: without a GPU."""

    def __init__(
        self,
        call: Call,
        env: Mapping[str, str],
        *,
        rehearses: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call = call
        self._env = env
        self._rehearses = rehearses
        self._clock = clock
        self._began = clock()

    @property
    def seconds(self) -> float:
        """Seconds since the call began."""
        return self._clock() - self._began

    def machine(self, scratch: Path) -> tuple[Ending, dict[str, Any], Path]:
        """Names the GPU and the software: how the process ended, what it found, and its log."""
        step = next(step for step in self._call.steps if step.name == MACHINE)
        path = scratch / "machine.log"
        with path.open("ab", buffering=0) as log:
            ending = self._process(step, self._limit_s(step), log, scratch, Path(os.devnull))
        return ending, read_findings(scratch)[0], path

    def run(self, steps: Sequence[Step], record: Record, place: Place, machine: Mapping[str, Any]) -> bool:
        """Runs steps; returns whether none of them failed. One for which no time is left, or that lacks a
        package, is "not run".
        """
        well = True
        with place.log.open("ab", buffering=0) as log:
            for step in steps:
                known = self._known(step, machine)
                limit_s = self._limit_s(step)
                lacks = [name for name in step.needs if name not in machine["packages"]]
                reason = f"{' and '.join(lacks)} not installed" if lacks else ""
                if limit_s < _LEAST_S:
                    reason = "no time was left"
                if reason:
                    record.put(step, outcome="not run", reason=reason, **known)
                    print(f"{step.name:14} not run: {reason}", flush=True)
                    continue
                record.put(step, outcome="running", **known)
                known = self._step(step, limit_s, log, place) | known
                record.put(step, **known)
                well = well and known["outcome"] in ("right", "not run")
                reason = f": {known['reason']}" if known["reason"] else ""
                print(f"{step.name:14} {known['outcome']}, {known['seconds']:.1f} s{reason}", flush=True)
        record.end_call(self._call, self.seconds)
        return well

    def _known(self, step: Step, machine: Mapping[str, Any]) -> dict[str, Any]:
        on = f"CPU: {step.stand_in}" if self._rehearses else "GPU"
        triton = machine["packages"].get("triton", "none")
        software = f"Python {machine['python']}, torch {machine['torch']}, triton {triton}"
        return {"call": self._call.name, "on": on, "software": software, "limit_s": step.limit_s}

    def _limit_s(self, step: Step) -> float:
        return min(step.limit_s, self._call.limit_s - _ENDING_S - self.seconds)

    def _step(self, step: Step, limit_s: float, log: BinaryIO, place: Place) -> dict[str, Any]:
        log.write(f"\n== {step.name}, at {self.seconds:.0f} s, at most {limit_s:.0f} s\n".encode())
        start = log.tell()
        with tempfile.TemporaryDirectory(prefix="gpu-first-") as scratch:
            ending = self._process(step, limit_s, log, Path(scratch), place.trace)
            found, tables = read_findings(Path(scratch))
        outcome, reason = outcome_of(ending, found, tables, _last_line(place.log, start))
        return {
            "outcome": outcome,
            "reason": reason,
            "seconds": round(ending.seconds, 1),
            "found": found,
            "tables": tables,
        }

    def _process(self, step: Step, limit_s: float, log: BinaryIO, scratch: Path, trace: Path) -> Ending:
        template = step.rehearsal if self._rehearses else step.command
        places = {
            "out": str(scratch),
            "trace": str(trace),
            "seconds": f"{max(limit_s - _MARGIN_S, 1):.0f}",
            "patience": f"{max(limit_s - _EXIT_S, 1):.0f}",
        }
        words = [word.format_map(places) for word in shlex.split(template)]
        return run_process([sys.executable, "-m", *words], limit_s, log, ROOT, self._env)


def outcome_of(
    ending: Ending, found: Mapping[str, Any], tables: Mapping[str, Any], last_line: str
) -> tuple[str, str]:
    """The outcome of a step, and the reason if it is not right. What ends well and has found nothing did not
    run, and its last line says why.
    """
    rows = [row for table in tables.values() for row in table["rows"]]
    if ending.status is None:
        return "killed", ending.failure
    if ending.status:
        ours = [row.get("verdict") for row in rows if not row.get("by")]
        wrong = "WRONG" in (*ours, found.get("verdict"))
        return "WRONG" if wrong else "failed", f"{ending.failure}: {last_line}"
    if all(row.get("verdict") == "not run" for row in rows) and not found:
        return "not run", last_line
    return "right", ""


def _last_line(log: Path, start: int) -> str:
    """The last line after that position that is not empty."""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
