"""Checks that traces explain where the time of requests goes, on the whole suite.

python -m benchmarks.traces [--requests 200] [--concurrency 1] [--out FILE]

Starts `perigee run` with an OTLP collector in this process, streams chats (short and long prompts, some with
an image, some that share a beginning), and compares each trace with what the client has measured: the time to
the first token, and to the end. A moment is explained if a stage of the gateway covers it, which has the
workers' figures in its stages. Exits with 1 if what is not explained is over max(5 %, 3 ms) for more than 5 %
of the requests. Requests compete for the cores of this machine with their client, so there is one at a time;
more show in `transit` how long the processes waited for a core.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.collector import Collector, Span
from benchmarks.deaths.suite import Suite
from benchmarks.result import write_result
from services.gateway.request_record import STAGES

SHARE, LEAST_S, QUANTILE = 0.05, 0.003, 0.95
_ARRIVAL_S = 10.0


@dataclass(frozen=True)
class Asked:
    """A request as the client saw it; times in Unix nanoseconds."""

    trace_id: str
    sent: int
    first: int
    ended: int


@dataclass(frozen=True)
class Missed:
    """What no stage explains, in seconds, of the time to the first token and to the end."""

    first_s: float
    first_of_s: float
    end_s: float
    end_of_s: float


def bodies(count: int) -> list[dict[str, Any]]:
    """Bodies of many kinds, the same ones in each run."""
    draw = random.Random(26)
    shared = " ".join(draw.choice(("red", "blue", "green")) for _ in range(300))
    made = []
    for number in range(count):
        words = " ".join(str(draw.randrange(1000)) for _ in range(draw.choice((5, 100, 400))))
        text = f"{shared} {words}" if number % 3 == 0 else words
        content: Any = text
        if number % 10 == 0:
            content = [
                {"type": "image_url", "image_url": {"url": _picture(draw)}},
                {"type": "text", "text": text},
            ]
        made.append(
            {
                "messages": [{"role": "user", "content": content}],
                "max_tokens": draw.choice((1, 8, 40)),
                "stream": True,
                "ignore_eos": True,
            }
        )
    return made


class Connection:
    """A connection to the REST door. It does little, so that the client is not what is measured."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str) -> Connection:
        """Connects to the host and port of the URL."""
        host, _, port = url.removeprefix("http://").partition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def ask(self, body: dict[str, Any]) -> Asked:
        """Streams one chat. Raises RuntimeError for an answer that is none."""
        trace_id, content, first = secrets.token_hex(16), json.dumps(body).encode(), 0
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"traceparent: 00-{trace_id}-{secrets.token_hex(8)}-01\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        sent = time.time_ns()
        self._writer.write(head.encode() + content)
        status = await self._reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"{status.decode().strip()}: {(await self._reader.read(2000)).decode()}")
        while (line := await self._reader.readline()) != b"data: [DONE]\n":
            if not line:
                raise RuntimeError("the connection ended within an answer")
            first = first or (time.time_ns() if _has_token(line) else 0)
        ended = time.time_ns()
        await self._reader.readuntil(b"\r\n0\r\n\r\n")
        return Asked(trace_id, sent, first or ended, ended)

    async def close(self) -> None:
        """Ends it."""
        self._writer.close()
        await self._writer.wait_closed()


async def ask_all(url: str, made: Sequence[dict[str, Any]], concurrency: int) -> list[Asked]:
    """Streams all, over so many connections."""
    left, asked = list(reversed(made)), []

    async def work() -> None:
        connection = await Connection.open(url)
        while left:
            asked.append(await connection.ask(left.pop()))
        await connection.close()

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return asked


def missed(asked: Asked, spans: Sequence[Span]) -> Missed:
    """What the stages of a trace leave open of the client's times."""
    stages = [(span.began, span.ended) for span in spans if span.service == "gateway" and span.name in STAGES]
    first_s = (asked.first - asked.sent - _covered(stages, asked.sent, asked.first)) / 1e9
    end_s = (asked.ended - asked.sent - _covered(stages, asked.sent, asked.ended)) / 1e9
    return Missed(first_s, (asked.first - asked.sent) / 1e9, end_s, (asked.ended - asked.sent) / 1e9)


def excess(unexplained_s: float, of_s: float) -> float:
    """What is not explained as a part of what may be: over 1 it is too much."""
    return unexplained_s / max(LEAST_S, SHARE * of_s)


def _covered(stages: Sequence[tuple[int, int]], began: int, ended: int) -> int:
    """Nanoseconds of [began, ended) that lie in a stage."""
    covered, at = 0, began
    for start, end in sorted(stages):
        start, end = max(start, at), min(end, ended)
        if end > start:
            covered += end - start
            at = end
    return covered


def _has_token(line: bytes) -> bool:
    if not line.startswith(b"data: {"):
        return False
    choices = json.loads(line.removeprefix(b"data: ")).get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return bool(delta.get("content") or delta.get("reasoning_content") or choices[0].get("finish_reason"))


def _picture(draw: random.Random) -> str:
    image, file = Image.new("RGB", (112, 84), tuple(draw.randrange(256) for _ in range(3))), io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


async def _arrived(collector: Collector, asked: Sequence[Asked]) -> None:
    """Waits until every trace has the spans of gateway and decode."""
    until = time.monotonic() + _ARRIVAL_S
    while time.monotonic() < until:
        # A service's own span, the only one with a space in its name, ends after those of its stages.
        services = [
            {span.service for span in collector.trace(each.trace_id) if " " in span.name} for each in asked
        ]
        if all({"gateway", "decode"} <= found for found in services):
            return
        await asyncio.sleep(0.1)
    raise RuntimeError(f"spans are missing after {_ARRIVAL_S:g} s")


def _summary(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[round(QUANTILE * 100) - 1]


def _medians(collector: Collector, asked: Sequence[Asked]) -> dict[str, float]:
    """The median seconds of each service's spans, by service and name."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for each in asked:
        for span in collector.trace(each.trace_id):
            seconds[f"{span.service} {span.name}"].append((span.ended - span.began) / 1e9)
    return {name: statistics.median(values) for name, values in sorted(seconds.items())}


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.traces", description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(argv)
    made = bodies(options.requests)
    with tempfile.TemporaryDirectory() as logs, Collector() as collector:
        with Suite(Path.cwd(), Path(logs), collector.environment) as suite:
            asyncio.run(ask_all(suite.url, made[:8], options.concurrency))  # processes meet, kernels warm up
            asked = asyncio.run(ask_all(suite.url, made, options.concurrency))
            asyncio.run(_arrived(collector, asked))
        found = [missed(each, collector.trace(each.trace_id)) for each in asked]
        medians = _medians(collector, asked)
    first = _summary([excess(each.first_s, each.first_of_s) for each in found])
    end = _summary([excess(each.end_s, each.end_of_s) for each in found])
    for name, value in medians.items():
        print(f"{name:28} {1e3 * value:8.2f} ms (median)")
    for what, values, times, part in (
        ("first token", [each.first_s for each in found], [each.first_of_s for each in found], first),
        ("end", [each.end_s for each in found], [each.end_of_s for each in found], end),
    ):
        print(
            f"to the {what}: median {1e3 * statistics.median(times):.1f} ms, not explained at p95"
            f" {1e3 * _summary(values):.2f} ms, {part:.2f} of what may be"
        )
    write_result(options.out, {"requests": len(found), "first": first, "end": end, "median_s": medians})
    return int(max(first, end) > 1)


if __name__ == "__main__":
    sys.exit(main())
