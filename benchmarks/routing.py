"""Measures the time of a route: choosing the workers that decode and compute a prompt, among many simulated
ones.

python -m benchmarks.routing [--workers 1000] [--pages 100] [--out FILE]

Half of the workers decode, half prefill. Each has reported a full prefix cache; every fourth holds some
beginning of the prompt. No worker is contacted. Exits with 1 if the median is 1 ms or more.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import grpc
import structlog

from benchmarks.result import write_result
from perigee.v1 import worker_pb2
from services.common.page_hash import PAGE_TOKENS
from services.gateway.workers.cached import CachedNames
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import DECODE, PREFILL, RolePool
from services.gateway.workers.router import PromptPages, Router
from services.gateway.workers.worker import DecodeWorker, Worker

BOUND_MS = 1.0
CACHED_PAGES = 1024
ROUTES = 300


class _Prefill(Worker):
    """A worker whose reports are given here, without a watch."""

    def start(self) -> None:
        """Does nothing: there is no such worker."""


class _Decode(DecodeWorker):
    """A worker whose reports are given here, without a watch."""

    def start(self) -> None:
        """Does nothing: there is no such worker."""


class Fleet:
    """Pools of simulated workers, each with a random load and cache."""

    def __init__(self, workers: int, prompt: PromptPages, channel: grpc.aio.Channel) -> None:
        self._prompt = prompt
        self._random = random.Random(7)
        self._channel = channel
        session = SimpleNamespace(connected=True)
        self.decode = RolePool("decode", "many", lambda *at: _Decode(self._link(DECODE, *at), session))
        self.prefill = RolePool("prefill", "many", lambda *at: _Prefill(self._link(PREFILL, *at)))
        self.vision: RolePool[Worker] = RolePool("vision", "", lambda *at: _Prefill(self._link(PREFILL, *at)))
        for pool in (self.decode, self.prefill):
            pool.update(f"10.0.{number // 250}.{number % 250}:50051" for number in range(workers // 2))

    def _link(self, role: worker_pb2.WorkerRole.ValueType, address: str, cached: CachedNames) -> WorkerLink:
        link, dice = WorkerLink(role, address, self._channel, cached), self._random
        own = [dice.getrandbits(64) for _ in range(CACHED_PAGES)]
        held = dice.randrange(len(self._prompt.names)) if dice.random() < 0.25 else 0
        changes = worker_pb2.CacheChanges(reset=True, added=[*own, *self._prompt.names[:held]])
        pages = worker_pb2.PageCounts(free=dice.randrange(2000))
        report = worker_pb2.LoadReport(
            running=dice.randrange(64), queued_tokens=dice.randrange(9000), pages=pages, cache=changes
        )
        link._take_report(worker_pb2.WorkerInfo(incarnation="simulated"), report)
        return link


async def measure(workers: int, pages: int) -> list[float]:
    """Milliseconds of each route."""
    dice = random.Random(1)
    prompt = PromptPages(pages * PAGE_TOKENS, [dice.getrandbits(64) for _ in range(pages)])
    fleet = Fleet(workers, prompt, grpc.aio.insecure_channel("127.0.0.1:1"))
    router = Router(fleet)  # type: ignore[arg-type]
    took = []
    for _ in range(ROUTES):
        began = time.perf_counter()
        router.require(images=False)
        reader = router.decode(prompt)
        router.prefill(prompt, reader)
        took.append(1e3 * (time.perf_counter() - began))
    return took


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing", description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--pages", type=int, default=100, help="of the prompt")
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the line")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    took = sorted(asyncio.run(measure(arguments.workers, arguments.pages)))
    median, p99 = statistics.median(took), took[int(0.99 * len(took))]
    print(f"{arguments.workers} workers, {arguments.pages} pages: {median:.2f} ms a route, p99 {p99:.2f} ms")
    write_result(arguments.out, {"median_ms": median, "p99_ms": p99})
    return int(median >= BOUND_MS)


if __name__ == "__main__":
    raise SystemExit(main())
