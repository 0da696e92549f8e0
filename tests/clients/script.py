"""Running a client's script: what it says of its assertions, or a long stream of it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.clients.environment import Environment

_RUN_S = 300.0


@dataclass(frozen=True)
class Report:
    """Whether an assertion holds; `detail`: a note, or the client's traceback."""

    holds: bool
    detail: str
    seconds: float


def check(environment: Environment, url: str, full_url: str) -> dict[str, Report]:
    """Runs the script against the suite at `url` and a full gateway; returns its reports by assertion.

    Raises AssertionError with the script's output if it ends before it has said all.
    """
    done = subprocess.run(
        [*environment.command, url, full_url],
        cwd=environment.folder,
        env=_variables(environment.folder),
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"assertion"')]
    return {line.pop("assertion"): Report(**line) for line in lines}


class Stream:
    """A client that streams a long answer, in a process of its own; it waits until it is told to begin."""

    def __init__(self, environment: Environment, url: str) -> None:
        self._errors = (environment.folder / "stream.log").open("w+")
        self._process = subprocess.Popen(
            [*environment.command, url, url, "--stream"],
            cwd=environment.folder,
            env=_variables(environment.folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def begin(self) -> None:
        """Has it send its request."""
        assert self._process.stdin is not None
        self._process.stdin.write("begin\n")
        self._process.stdin.flush()

    def said(self, key: str, timeout_s: float = 120.0) -> Any:
        """The value of the next line with that key; raises AssertionError if it ends before."""
        while line := self._lines.get(timeout=timeout_s):
            fields = json.loads(line) if line.startswith("{") else {}
            if key in fields:
                return fields[key]
        self._errors.seek(0)
        raise AssertionError(f"it ended without {key!r}:\n{self._errors.read()}")

    def close(self) -> None:
        """Ends it, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")


def _variables(home: Path) -> dict[str, str]:
    """Variables that keep a client from the user's settings, from proxies, and from fetching anything."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
    }
