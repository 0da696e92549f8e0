"""Requests that decode and prefill workers serve while somebody sends forged messages in decode's name.

`python -m tests.decode.forgery [--requests N] [--seed S] [--real]` serves N requests, four at a time, over
real gRPC, a model without weights and the in-memory transport; with --real the whole suite serves them, with
kimi-nano and NIXL (tests/decode/real_forgery.py). The forger knows decode's name, its lease keys and every
address, but no reader token. It fails for a wrong text, a failed request, or a forged message that
is accepted. Without --real it also fails if a prompt is fetched twice. With --real it fails if prefill has
computed fewer tokens than fill whole pages of the prompts; it would not notice one that is fetched twice.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import time
from collections import Counter

import structlog

from perigee.v1 import worker_pb2
from services.engine.kv_cache.kv_pages import kv_layout
from tests.decode import real_forgery
from tests.decode.fetching_suite import FetchingSuite
from tests.decode.forger import Forger
from tests.support.endpoints import open_channel
from tests.support.fake_runner import greedy
from tests.support.owner import MODEL
from tests.support.waiting import until

AT_ONCE = 4


async def serve(requests: int, seed: int = 1) -> Counter[tuple[str, str]]:
    """Serves that many requests beside a forger and returns its answers.

    Raises AssertionError for a wrong text, a failed request, and a prompt that was fetched twice.
    """
    suite = FetchingSuite(prefill_pages=24, max_waiting=32)
    await suite.start()
    turns, draw = asyncio.Semaphore(AT_ONCE), random.Random(seed)

    async def request(prompt: list[int]) -> None:
        async with turns:
            made = suite.bench.request(prompt, 2, prefill=[suite.worker.address])
            heard = suite.bench.heard[made.handle]
            suite.loop.post(lambda: suite.bench.engine.submit(made))
            await until(lambda: heard.finish() or heard.errors or suite.failures, 30.0)
            assert (heard.errors, suite.failures) == ([], []), (heard.errors, suite.failures)
            assert heard.tokens[0] == greedy(prompt, 2), "a wrong text"

    async with open_channel(suite.worker.address) as channel:
        victim = worker_pb2.WorkerInfo(
            incarnation="decode-1", model=MODEL, layout=kv_layout(suite.bench.kv_pages)
        )
        forger = Forger(channel, victim, lambda: len(suite.io.orders))
        forging = asyncio.create_task(forger.run())
        try:
            prompts = ([draw.randrange(64) for _ in range(draw.randint(66, 190))] for _ in range(requests))
            await asyncio.gather(*(request(prompt) for prompt in prompts))
            assert not forging.done(), forging.exception()
        finally:
            forging.cancel()
            await asyncio.wait([forging])
    await until(suite.worker.is_free)
    assert len(suite.io.orders) == requests, "a prompt was fetched again"
    await suite.close()
    return forger.answers


def main(arguments: list[str] | None = None) -> int:
    """Prints the forged messages by kind and answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true", help="the whole suite with kimi-nano")
    args = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    began = time.monotonic()
    answers = asyncio.run((real_forgery.serve if args.real else serve)(args.requests, args.seed))
    checked = "prefill computed at least their whole pages" if args.real else "none fetched again"
    print(f"{args.requests} requests, 0 wrong texts, {checked}, {time.monotonic() - began:.1f} s")
    for (kind, code), count in sorted(answers.items()):
        print(f"{count:6} forged {kind}: {code}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
