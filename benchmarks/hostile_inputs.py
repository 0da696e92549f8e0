"""Measures what hostile inputs do to another client's stream.

python -m benchmarks.hostile_inputs [ATTACK ...] [--model DIR] [--settle 60] [--most-gap 1.0] [--out FILE]

Starts a gateway and a decode worker, with a core each. A well-behaved client streams tokens while each attack
(benchmarks/attacks.py; all of them by default) is sent from its own process. Reports the longest gap of the
stream without and with the attack, the attacker's answers, and the memory of the services before and after,
and once more after a pause at the end. Exits with 1 if a gap was longer than `--most-gap` seconds, if the
memory at the end is over 100 MB above that at the start, if the stream failed, or if a status of 5xx was
answered.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.attacks import ATTACKS
from benchmarks.child import Child, Pipe
from benchmarks.fleet import Fleet
from benchmarks.result import write_result
from benchmarks.target import Target
from services.cli.process_memory import resident_bytes

_QUIET_S = 5.0
_ATTACK_S = 300.0
_MOST_GROWTH_MB = 100.0
_FAULT = re.compile(r"\b5\d\d\b|INTERNAL|UNKNOWN")


class Stream:
    """A client whose stream never ends, in a thread."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._gap = self._last = 0.0
        self._ended = threading.Event()
        self._failures: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Forgets the gaps so far."""
        self._gap, self._last = 0.0, time.perf_counter()

    @property
    def longest_gap_s(self) -> float:
        """The longest gap since `begin`, including one that still lasts."""
        return max(self._gap, time.perf_counter() - self._last)

    @property
    def failures(self) -> Counter[str]:
        """The errors of its requests, with their counts."""
        return self._failures

    def close(self) -> None:
        """Ends the stream with the next token."""
        self._ended.set()
        self._thread.join(10)

    def _run(self) -> None:
        body = {"prompt": "x", "max_tokens": 4000, "ignore_eos": True, "stream": True, "model": None}
        body |= {
            "skip_special_tokens": False
        }  # else a token of no text has no event, and the next seems late
        with httpx.Client(base_url=self._url, timeout=_ATTACK_S, trust_env=False) as client:
            while not self._ended.is_set():
                try:
                    self._read(client, body)
                except httpx.HTTPError as error:
                    self._failures[str(error) or type(error).__name__] += 1
                    time.sleep(0.1)

    def _read(self, client: httpx.Client, body: dict[str, object]) -> None:
        with client.stream("POST", "/v1/completions", json=body) as answer:
            answer.raise_for_status()
            for _ in answer.iter_lines():
                now = time.perf_counter()
                self._gap = max(self._gap, now - self._last)
                self._last = now
                if self._ended.is_set():
                    return


@dataclass(frozen=True)
class Row:
    """The effect of one attack. Gaps in ms, memory of all services in MB."""

    attack: str
    seconds: float
    quiet_gap_ms: float
    gap_ms: float
    ratio: float
    before_mb: float
    after_mb: float
    answers: dict[str, int]


def attack_in_child(pipe: Pipe, name: str, target: Target) -> Counter[str]:
    """Runs the attack in its own process (benchmarks.child), so that building the input causes no gap."""
    return ATTACKS[name](target)


def measure(name: str, target: Target, stream: Stream, fleet: Fleet) -> Row:
    """Measures one attack, after some time without."""
    stream.begin()
    time.sleep(_QUIET_S)
    quiet, before = stream.longest_gap_s, _megabytes(fleet)
    stream.begin()
    began = time.monotonic()
    child = Child("attacker", "benchmarks.hostile_inputs", "attack_in_child", name, target)
    try:
        answers = child.receive(began + _ATTACK_S)
    finally:
        child.close()
    seconds = time.monotonic() - began
    time.sleep(1)  # what remains of the attack's work affects the stream too
    gap = stream.longest_gap_s
    return Row(name, seconds, 1e3 * quiet, 1e3 * gap, gap / quiet, before, _megabytes(fleet), dict(answers))


def _megabytes(fleet: Fleet) -> float:
    return sum(resident_bytes(pid) for pid in fleet.pids) / 1e6


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile_inputs", description=__doc__)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    parser.add_argument("--model", type=Path, default=Path("models/kimi-nano"))
    parser.add_argument("--settle", type=float, default=60.0, help="seconds before memory is read at last")
    parser.add_argument("--most-gap", type=float, default=1.0, help="seconds")
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the table")
    options = parser.parse_args(argv)
    unknown = [name for name in options.attacks if name not in ATTACKS]
    if unknown:
        parser.error(f"no such attack: {', '.join(unknown)}")
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as logs, Fleet(options.model, Path(logs)) as fleet:
        decode = fleet.worker("decode", [cores[-1]])
        url, grpc_port = fleet.both_doors([decode], cores=[cores[0]])
        target = Target(urlsplit(url).port or 0, grpc_port)
        stream = Stream(url)
        try:
            time.sleep(_QUIET_S)
            rows = [_shown(measure(name, target, stream, fleet)) for name in options.attacks or ATTACKS]
            time.sleep(options.settle)
            grown = _megabytes(fleet) - rows[0].before_mb
        finally:
            stream.close()
    print(f"memory {options.settle:g} s after the last: {grown:+.0f} MB")
    print(f"failures of the stream: {dict(stream.failures) or 'none'}")
    found = {"grown_mb": grown, "failures": dict(stream.failures), "rows": [asdict(row) for row in rows]}
    write_result(options.out, found)
    faults = [answer for row in rows for answer in row.answers if _FAULT.search(answer)]
    late = [row.attack for row in rows if row.gap_ms > 1e3 * options.most_gap]
    return int(bool(faults or late or stream.failures or grown > _MOST_GROWTH_MB))


def _shown(row: Row) -> Row:
    print(
        f"{row.attack:24}{row.seconds:7.1f} s  gap {row.quiet_gap_ms:6.0f} -> {row.gap_ms:6.0f} ms"
        f" ({row.ratio:5.1f}x)  {row.before_mb:6.0f} -> {row.after_mb:6.0f} MB  {row.answers}",
        flush=True,
    )
    return row


if __name__ == "__main__":
    raise SystemExit(main())
