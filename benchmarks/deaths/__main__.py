"""Measures what the death, the end or a stop of a role's only process costs the clients.

python -m benchmarks.deaths [ROLE ...] [--events kill,stop2,...] [--checkout DIR] [--out FILE]

Starts `perigee run` of a checkout of Perigee with its own .venv, by default this one: one process of each
role on kimi-nano. 40 requests are in flight, half of them in the middle of their answers and half just sent,
when one process gets SIGKILL, SIGTERM, or SIGSTOP and after some seconds SIGCONT. A client counts a request
as lost if its first try is not answered; it then retries, to see what that saves, before it sends the next
one. The event `none` disturbs nothing. Each event prints a line of JSON, appended to FILE too; the table
comes last. Exits with 1 if a text is wrong, or if more is lost than has to be: anything at vision and
prefill, and anything without a retryable reason.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.deaths.clients import Clients
from benchmarks.deaths.row import Row, table
from benchmarks.deaths.suite import Suite, send

ROLES = ("vision", "prefill", "decode", "gateway")
EVENTS = ("none", "stop2", "stop8", "stop20", "kill", "term")
AT_ONCE = 40
_STREAMING, _WARM_S = 6, 30.0
"""So many answers are streaming before the rest is sent, or so much time has gone by."""
_JUST_SENT_S = 0.25
_AFTER_S = 2.0
_PATIENCE_S = 120.0
_REPOSITORY = Path(__file__).resolve().parents[2]


async def right_texts(url: str) -> dict[int, str]:
    """The answers of an undisturbed suite, by number. Raises RuntimeError if one is missing."""
    async with Clients(url, 0, _PATIENCE_S) as clients:
        clients.begin_once_each(AT_ONCE)
        await clients.all_done()
    texts = {}
    for each in clients.asked:
        if each.first is None or each.first.reason:
            raise RuntimeError(f"the undisturbed suite did not answer: {each.first}")
        texts[each.number] = each.first.text
    if "" in texts.values():
        raise RuntimeError("an answer without a text shows nothing")
    return texts


async def measure(suite: Suite, role: str, event: str, first_use: int, texts: Mapping[int, str]) -> Row:
    """Lets one event happen to the role's process."""
    async with Clients(suite.url, first_use, _PATIENCE_S) as clients:
        clients.begin(AT_ONCE // 2)
        await clients.streaming(_STREAMING, _WARM_S)
        clients.begin(AT_ONCE - AT_ONCE // 2)
        await asyncio.sleep(_JUST_SENT_S)
        at, whole = time.monotonic(), float("inf")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await _happen(suite, role, event)
                whole = time.monotonic()
                await asyncio.sleep(_AFTER_S)
                await clients.finish_all_sent_before(at)
        except TimeoutError:
            print(f"{role} {event}: not over after {_PATIENCE_S:.0f} s", file=sys.stderr)
    return Row.of(role, event, at, whole, clients.asked, clients.heard, texts)


async def _happen(suite: Suite, role: str, event: str) -> None:
    """Ends when the event is over and all roles serve again."""
    (pid,) = suite.pids(role)
    if event == "none":
        return
    if event.startswith("stop"):
        send(pid, signal.SIGSTOP)
        await asyncio.sleep(float(event.removeprefix("stop")))
        send(pid, signal.SIGCONT)
        await suite.until_whole(role, None)
    else:
        send(pid, signal.SIGKILL if event == "kill" else signal.SIGTERM)
        await suite.until_whole(role, pid)


def _subject(checkout: Path) -> str:
    words = ["git", "-C", str(checkout), "log", "-1", "--format=%h %s"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deaths", description=__doc__)
    parser.add_argument("roles", nargs="*", metavar="ROLE", help=", ".join(ROLES))
    parser.add_argument(
        "--events", default=",".join(EVENTS), help="default: %(default)s; stopN stops for N s"
    )
    parser.add_argument("--checkout", type=Path, default=_REPOSITORY)
    parser.add_argument("--out", type=Path, default=None, help="lines of JSON are appended")
    options = parser.parse_args(argv)
    if unknown := set(options.roles) - set(ROLES):
        parser.error(f"no such role: {', '.join(sorted(unknown))}; there are {', '.join(ROLES)}")
    rows, texts = [], {}
    print(f"{options.checkout}: {_subject(options.checkout)}", flush=True)
    for role in options.roles or ROLES:
        with (
            tempfile.TemporaryDirectory() as logs,
            Suite(options.checkout.resolve(), Path(logs)) as suite,
        ):
            texts = texts or asyncio.run(right_texts(suite.url))
            for place, event in enumerate(options.events.split(",")):
                row = asyncio.run(measure(suite, role, event, 100_000 * (place + 1), texts))
                rows.append(row)
                _report(row, options.out)
    print(table(rows))
    return int(any(_costs_too_much(row) for row in rows))


def _report(row: Row, out: Path | None) -> None:
    line = json.dumps(row.line())
    print(line, flush=True)
    if out is not None:
        with out.open("a") as file:
            file.write(line + "\n")


def _costs_too_much(row: Row) -> bool:
    return bool(row.wrong or row.final or (row.lost and row.role in ("vision", "prefill")))


if __name__ == "__main__":
    raise SystemExit(main())
