"""The JSON of a GPU's first run: what is known is in the file at any moment."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu_first.steps import CALLS, MACHINE, Call, Step

Found = dict[str, Any]
_ORDER = [step.name for call in CALLS.values() for step in call.steps if step.name != MACHINE]


class Record:
    """`machine`, `calls` by name and `steps` by name, written after every change.

    A call says how long it took and whether it is `complete`. A step has an `outcome` (running, right,
    WRONG, failed, killed, not run), the `reason` if it is not right, its `seconds` and `limit_s`, what it ran
    `on`, the `software`, what it `found`, and `tables` of rows.
    """

    def __init__(self, path: Path, found: Found | None = None) -> None:
        self._path = path
        self._found = found or {"machine": {}, "calls": {}, "steps": {}}

    @classmethod
    def continued(cls, path: Path) -> Record:
        """The record that an earlier run left in `path`, or a new one."""
        return cls(path, json.loads(path.read_text()) if path.exists() else None)

    @property
    def steps(self) -> dict[str, Found]:
        """What is known of each step."""
        steps: dict[str, Found] = self._found["steps"]
        return steps

    def begin_call(self, call: Call, steps: Iterable[Step], machine: Found) -> None:
        """A call begins, which will run these steps: what earlier runs found of them is dropped."""
        self._found["machine"] = machine
        self._found["calls"][call.name] = {
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "limit_s": call.limit_s,
            "complete": False,
        }
        for step in steps:
            self.steps.pop(step.name, None)
        self._write()

    def end_call(self, call: Call, seconds: float) -> None:
        """All steps of the call have been tried."""
        self._found["calls"][call.name] |= {"complete": True, "seconds": round(seconds, 1)}
        self._write()

    def put(self, step: Step, **known: object) -> None:
        """Replaces what is known of a step."""
        self.steps[step.name] = known
        self._found["steps"] = {name: self.steps[name] for name in _ORDER if name in self.steps}
        self._write()

    def _write(self) -> None:
        fresh = self._path.with_suffix(".tmp")
        fresh.write_text(json.dumps(self._found, indent=1) + "\n")
        fresh.replace(self._path)
