"""Measures what long prompts do to running streams: separate pools against workers that do both.

python -m benchmarks.interference [--model DIR] [--seconds 20] [--streams 8] [--prompt-tokens 2000]

Runs two workers of one thread, each on its own core. Disaggregated, one computes prompts and the other
decodes; aggregated, both do everything, with the chunk size (of several) that serves the streams best. In
both cases streams of long answers run, and a long prompt arrives whenever the previous one has its first
token. Gateway and clients run where they disturb the streams least: beside the worker that computes prompts,
or on both cores. Reports the times between tokens of the running streams, and the throughput. Exits with 1 if
the 99th percentile of the disaggregated run is more than half of the aggregated one's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fleet import Fleet
from benchmarks.result import write_result

BOUND = 0.5
CHUNKS = (64, 128, 256, 512)
_ANSWER_TOKENS = 4_000


@dataclass
class Load:
    """Measurements: seconds between two tokens of a stream, and the work done."""

    gaps: list[float] = field(default_factory=list)
    tokens: int = 0
    prompts: int = 0
    first_tokens: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """The figures of one arrangement of the workers, in milliseconds and per second."""

    name: str
    p50_ms: float
    p99_ms: float
    most_ms: float
    tokens_per_second: float
    prompts_per_second: float
    first_token_ms: float

    @classmethod
    def of(cls, name: str, load: Load, seconds: float) -> Result:
        """Computes the figures from the load of so many seconds."""
        gaps = sorted(load.gaps) or [0.0]
        firsts = sorted(load.first_tokens) or [0.0]
        return cls(
            name,
            1e3 * gaps[len(gaps) // 2],
            1e3 * gaps[int(0.99 * (len(gaps) - 1))],
            1e3 * gaps[-1],
            load.tokens / seconds,
            load.prompts / seconds,
            1e3 * firsts[len(firsts) // 2],
        )


class Clients:
    """Clients whose streams run, and one that sends long prompts."""

    def __init__(self, url: str, streams: int, prompt_tokens: int, seconds: float) -> None:
        self._url = url
        self._streams = streams
        self._prompt_tokens = prompt_tokens
        self._seconds = seconds
        self._load = Load()
        self._counts = False

    async def run(self) -> Load:
        """Runs the clients; ignores the first fifth of the time."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._url, timeout=600, limits=limits) as client:
            model = (await client.get("/v1/models")).json()["data"][0]["id"]
            work = [self._stream(client, model, number) for number in range(self._streams)]
            tasks = [asyncio.create_task(each) for each in (*work, self._send_prompts(client, model))]
            await asyncio.sleep(self._seconds / 5)
            self._counts = True
            await asyncio.sleep(self._seconds)
            self._counts = False
            ended = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in ended:
            task.result()  # a task ends only with an error
        return self._load

    async def _stream(self, client: httpx.AsyncClient, model: str, number: int) -> None:
        while True:
            body = _request(model, 32, _ANSWER_TOKENS, f"stream {number} {time.monotonic()}")
            last = 0.0
            async with client.stream("POST", "/v1/completions", json=body) as answer:
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    now = time.perf_counter()
                    if self._counts:
                        self._load.tokens += 1
                        if last:
                            self._load.gaps.append(now - last)
                    last = now

    async def _send_prompts(self, client: httpx.AsyncClient, model: str) -> None:
        number = 0
        while True:
            number += 1
            body = _request(model, self._prompt_tokens, 1, f"prompt {number}")
            began, counts = time.perf_counter(), self._counts
            (await client.post("/v1/completions", json=body | {"stream": False})).raise_for_status()
            if counts and self._counts:
                self._load.prompts += 1
                self._load.first_tokens.append(time.perf_counter() - began)


def _request(model: str, tokens: int, most: int, seed: str) -> dict[str, Any]:
    """A prompt of random tokens that is cached nowhere, answered to its full length."""
    dice = random.Random(seed)
    prompt = [dice.randrange(10, 1000) for _ in range(tokens)]
    return {
        "model": model,
        "prompt": prompt,
        "max_tokens": most,
        "temperature": 0.0,
        "ignore_eos": True,
        # Else a token without text has no event, and the next one seems late.
        "skip_special_tokens": False,
        "stream": True,
    }


def measure(
    name: str,
    model: Path,
    begin: Callable[[Fleet], str],
    cores: Iterable[int],
    streams: int,
    prompt_tokens: int,
    seconds: float,
) -> Result:
    """Measures one arrangement with its own fleet, with the clients on `cores`."""
    all_cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as logs, Fleet(model, Path(logs)) as fleet:
        clients = Clients(begin(fleet), streams, prompt_tokens, seconds)
        os.sched_setaffinity(0, cores)
        try:
            return Result.of(name, asyncio.run(clients.run()), seconds)
        finally:
            os.sched_setaffinity(0, all_cores)


def begin_apart(fleet: Fleet, decode_core: int, prefill_core: int) -> str:
    """Starts a worker that decodes, one that computes prompts, and a gateway beside it; returns its URL."""
    prefill = fleet.worker("prefill", [prefill_core])
    decode = fleet.worker("decode", [decode_core])
    return fleet.gateway([decode], prefill=[prefill], cores=[prefill_core])


def begin_together(fleet: Fleet, chunk: int, cores: Sequence[int]) -> str:
    """Starts a worker on each core that does both, and a gateway; returns its URL."""
    return fleet.gateway([fleet.worker("decode", [core], {"chunk_tokens": chunk}) for core in cores])


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.interference", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/kimi-nano"))
    parser.add_argument("--seconds", type=float, default=20.0, help="for each way")
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the table")
    options = parser.parse_args(argv)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("interference: not run: it takes two cores")
        return 0
    first, second = cores[:2]
    load = (options.streams, options.prompt_tokens, options.seconds)
    apart = partial(begin_apart, decode_core=first, prefill_core=second)
    results = [measure("disaggregated", options.model, apart, [second], *load)]
    for chunk in CHUNKS:
        name = f"aggregated, chunks of {chunk}"
        together = partial(begin_together, chunk=chunk, cores=(first, second))
        results.append(measure(name, options.model, together, [first, second], *load))
    print(f"{'':28}{'p50 ms':>8}{'p99 ms':>8}{'most ms':>9}{'tokens/s':>10}{'prompts/s':>11}{'TTFT ms':>9}")
    for each in results:
        print(
            f"{each.name:28}{each.p50_ms:8.1f}{each.p99_ms:8.1f}{each.most_ms:9.1f}"
            f"{each.tokens_per_second:10.0f}{each.prompts_per_second:11.2f}{each.first_token_ms:9.0f}"
        )
    ratio = results[0].p99_ms / min(each.p99_ms for each in results[1:])
    print(f"p99 of the disaggregated run: {ratio:.2f} of the best aggregated one's (bound {BOUND})")
    found = {"ratio": ratio, "results": [asdict(each) for each in results]}
    write_result(options.out, found)
    return int(ratio > BOUND)


if __name__ == "__main__":
    raise SystemExit(main())
