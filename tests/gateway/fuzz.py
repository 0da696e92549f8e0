"""Bodies made from /openapi.json, right ones and wrong ones, against a gateway over fake workers.

`python -m tests.gateway.fuzz [--cases N] [--seed S]` sends at least N cases and stops at the first failure.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from tests.gateway.suite import open_suite

# A right body by the schema may still be refused for a value out of range: positive_data_acceptance is
# no check of ours; and there is no authentication, nothing is created, no header is needed.
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@contextlib.contextmanager
def gateway() -> Iterator[str]:
    """Its base URL; it runs on a thread of its own."""
    started: queue.Queue[str] = queue.Queue()
    stop = threading.Event()

    async def serve() -> None:
        async with open_suite() as suite:
            started.put(str(suite.http.base_url))
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield started.get(timeout=60)
    finally:
        stop.set()
        thread.join()


def fuzz(base_url: str, cases: int, number: int) -> Counter[int]:
    """Sends at least `cases` cases, spread over all operations; how many got which status.

    `number` seeds them. Raises what schemathesis raises for an answer that is not as described.
    """
    statuses: Counter[int] = Counter()
    with requests.Session() as session:
        session.trust_env = False
        description = session.get(f"{base_url}/openapi.json", timeout=10).json()
        schema = schemathesis.openapi.from_dict(description)
        strategies = [
            result.ok().as_strategy(generation_mode=mode)
            for result in schema.get_all_operations()
            for mode in MODES
            if mode is GenerationMode.POSITIVE or result.ok().body or result.ok().query
        ]
        each = math.ceil(cases / len(strategies))
        while statuses.total() < cases:
            for strategy in strategies:
                _send(strategy, each, number, base_url, session, statuses)
            number += 1
    return statuses


def _send(strategy, count, number, base_url, session, statuses) -> None:
    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def send(case) -> None:
        answer = case.call_and_validate(base_url=base_url, session=session, checks=CHECKS, timeout=30)
        statuses[answer.status_code] += 1

    send()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    with gateway() as base_url:
        statuses = fuzz(base_url, arguments.cases, arguments.seed)
    counts = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    print(f"{statuses.total()} cases as described, in {time.monotonic() - began:.0f} s: {counts}")


if __name__ == "__main__":
    main()
