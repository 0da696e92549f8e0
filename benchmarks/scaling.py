"""Measures how more workers and longer contexts change the rate of tokens.

python -m benchmarks.scaling [--model DIR] [--streams 8] [--tokens 64] [--out FILE]

Runs one to four decode workers of one thread, distributed over this machine's cores, behind one gateway, each
with the same number of streams. Then runs one worker whose streams have contexts of several lengths, cached
before the clock starts. Gateway and clients share the cores with the workers: on a small machine each has
less than one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from benchmarks.fleet import Fleet
from benchmarks.result import write_result

MODEL = Path("models/kimi-nano")
WORKERS = (1, 2, 3, 4)
CONTEXTS = (128, 1024, 4096)
SHORT = 64
ROUNDS = 3
_VOCAB = 1024


class Streams:
    """So many prompts of random tokens, sent at once, each for the same number of tokens."""

    def __init__(self, url: str, number: int, context: int, tokens: int, seed: str) -> None:
        dice = random.Random(seed)
        self._url = url
        self._bodies = [
            {
                "input_ids": [dice.randrange(_VOCAB) for _ in range(context)],
                "sampling_params": {"max_new_tokens": tokens, "temperature": 0, "ignore_eos": True},
            }
            for _ in range(number)
        ]

    async def rate(self) -> float:
        """Tokens per second. The first call also computes the prompts; later ones find them cached."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self._url, timeout=600, limits=limits) as client:
            began = time.perf_counter()
            answers = await asyncio.gather(*(client.post("/generate", json=body) for body in self._bodies))
            seconds = time.perf_counter() - began
        counts = [answer.raise_for_status().json()["meta_info"]["completion_tokens"] for answer in answers]
        return sum(counts) / seconds

    def median_rate(self) -> float:
        """The median rate of some rounds with cached prompts."""
        asyncio.run(self.rate())
        return statistics.median(asyncio.run(self.rate()) for _ in range(ROUNDS))


def by_workers(model: Path, streams: int, tokens: int) -> dict[int, float]:
    """Tokens per second for each number of workers, with `streams` on each."""
    cores = sorted(os.sched_getaffinity(0))
    rates = {}
    for number in WORKERS:
        with tempfile.TemporaryDirectory() as logs, Fleet(model, Path(logs)) as fleet:
            workers = [fleet.worker("decode", [cores[index % len(cores)]]) for index in range(number)]
            rates[number] = Streams(
                fleet.gateway(workers), streams * number, SHORT, tokens, f"workers {number}"
            ).median_rate()
    return rates


def by_context(model: Path, streams: int, tokens: int) -> dict[int, float]:
    """Tokens per second of one worker for each length of its streams' contexts."""
    pages = streams * (max(CONTEXTS) + tokens) // 64 + 2 * streams
    with tempfile.TemporaryDirectory() as logs, Fleet(model, Path(logs)) as fleet:
        url = fleet.gateway([fleet.worker("decode", os.sched_getaffinity(0), {"kv_pages": 2 * pages})])
        return {
            context: Streams(url, streams, context, tokens, f"context {context}").median_rate()
            for context in CONTEXTS
        }


def main(argv: list[str] | None = None) -> int:
    """Runs the command line. There is no bound: the exit status is 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--streams", type=int, default=8, help="at once on a worker")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the tables")
    options = parser.parse_args(argv)
    cores = len(os.sched_getaffinity(0))
    workers = by_workers(options.model, options.streams, options.tokens)
    print(f"{options.streams} streams a worker, {cores} cores")
    for number, rate in workers.items():
        print(f"{number} workers: {rate:7,.0f} tokens a second, {rate / workers[1]:.2f} of one")
    contexts = by_context(options.model, options.streams, options.tokens)
    for context, rate in contexts.items():
        print(f"{context:5,} tokens of context: {rate:7,.0f} a second, {rate / contexts[CONTEXTS[0]]:.2f}")
    write_result(options.out, {"cores": cores, "by_workers": workers, "by_context": contexts})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
