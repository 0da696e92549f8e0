"""Bodies made from /openapi.json, right ones and wrong ones, against a gateway.

`python -m tests.gateway.fuzz [--cases N] [--seed S] [--real]` sends at least N cases and stops at the first
answer that is not as described. It fails, too, if few of a route's answers are good: then the description is
so loose that right bodies are refused. The workers are fakes, or the real ones with `--real`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import queue
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from tests.gateway.right_bodies import completed
from tests.gateway.suite import NANO, open_suite
from tests.support.stack import Stack

# There is no authentication, nothing is created, no header is needed. Not every body that is right by its
# schema is accepted: positive_data_acceptance is no check, but LEAST_GOOD bounds how many are not.
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
LEAST_GOOD = 0.3


@dataclass
class Outcome:
    """How many cases of each route, such as `POST /generate`, got which status."""

    routes: Mapping[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def statuses(self) -> Counter[int]:
        """The counts of all routes together."""
        return sum(self.routes.values(), Counter())

    def good(self, route: str) -> float:
        """The share of a route's answers that are 2xx."""
        counts = self.routes[route]
        return sum(count for status, count in counts.items() if status < 300) / max(1, counts.total())

    @property
    def table(self) -> str:
        """A line per route."""
        lines = []
        for route, counts in self.routes.items():
            each = ", ".join(f"{count} x {status}" for status, count in sorted(counts.items()))
            lines.append(f"{route:28} {counts.total():5}  {self.good(route):4.0%} good: {each}")
        return "\n".join(lines)


@contextlib.contextmanager
def gateway() -> Iterator[str]:
    """Its base URL; it runs on a thread of its own, over fake workers."""
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


@contextlib.contextmanager
def real_suite() -> Iterator[str]:
    """The base URL of a gateway over real workers with the embedded model."""
    with tempfile.TemporaryDirectory() as logs, Stack(NANO, Path(logs)) as stack:
        stack.start()
        yield stack.base_url


def fuzz(base_url: str, cases: int, number: int) -> Outcome:
    """Sends at least `cases` cases, spread over all operations.

    `number` seeds them. Raises what schemathesis raises for an answer that is not as described.
    """
    outcome = Outcome()
    with requests.Session() as session:
        session.trust_env = False
        description = session.get(f"{base_url}/openapi.json", timeout=10).json()
        schema = schemathesis.openapi.from_dict(description)
        strategies = []
        for result in schema.get_all_operations():
            operation = result.ok()
            right = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
            strategies.append(right.map(completed))
            if operation.body or operation.query or operation.path_parameters:
                strategies.append(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        each = math.ceil(cases / len(strategies))
        while outcome.statuses.total() < cases:
            for strategy in strategies:
                _send(strategy, each, number, base_url, session, outcome)
            number += 1
    return outcome


def _send(
    strategy: Any, count: int, number: int, base_url: str, session: requests.Session, outcome: Outcome
) -> None:
    @seed(number)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def send(case: Any) -> None:
        answer = case.call_and_validate(base_url=base_url, session=session, checks=CHECKS, timeout=60)
        outcome.routes[f"{case.operation.method.upper()} {case.operation.path}"][answer.status_code] += 1

    send()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true", help="the whole suite with the embedded model")
    arguments = parser.parse_args()
    began = time.monotonic()
    with (real_suite if arguments.real else gateway)() as base_url:
        outcome = fuzz(base_url, arguments.cases, arguments.seed)
    print(outcome.table)
    print(f"{outcome.statuses.total()} cases as described, in {time.monotonic() - began:.0f} s")
    poor = [route for route in outcome.routes if outcome.good(route) < LEAST_GOOD]
    if poor:
        print(f"less than {LEAST_GOOD:.0%} good: {', '.join(poor)}")
    return 1 if poor else 0


if __name__ == "__main__":
    sys.exit(main())
