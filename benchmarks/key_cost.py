"""Measures what an API key costs a request in the gateway: the look-up, its limits and its metrics.

python -m benchmarks.key_cost [--keys 1000] [--processes 4]

Times the steps that requests with and without keys take: the least of many short rounds, so that a busy
machine does not count. Exits with 1 if a key adds over 10 us to a request, or if the check takes over 1 us
where no keys are asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.gateway.access.gatekeeper import Gatekeeper
from services.gateway.access.key_record import KeyRecord
from services.gateway.access.secret import digest, new_key
from services.gateway.access.usage_store import UsageStore
from services.gateway.admission import Admission
from services.gateway.http.guards.key_check import KeyCheck
from services.gateway.http.operations import Operation
from services.gateway.metrics import GatewayMetrics

BOUND_US, BOUND_WITHOUT_US = 10.0, 1.0
_PATH = "/v1/chat/completions"
_CALLS, _ROUNDS = 300, 200
_NEVER = 1_000_000_000


async def measure(keys: int, processes: int) -> tuple[float, float]:
    """Returns what a key adds to a request, and what the check costs without keys, in us."""
    with tempfile.TemporaryDirectory() as directory:
        made = [new_key() for _ in range(keys)]
        limits = {"max_concurrent": 100, "requests_per_minute": _NEVER, "tokens_per_minute": _NEVER}
        records = [
            KeyRecord(f"key-{number}", digest(key), ["chat"], **limits) for number, key in enumerate(made)
        ]
        gatekeeper = Gatekeeper(records, UsageStore(Path(directory) / "usage", 0, processes))
        admission = Admission(512, GatewayMetrics(CollectorRegistry()))
        key = made[keys // 2]
        tenant = gatekeeper.caller(key, "chat")
        checks = [
            KeyCheck(each, admission, (Operation(_PATH, ("POST",), None, "", {}),))
            for each in (gatekeeper, Gatekeeper(None))
        ]
        headers = [(b"host", b"x"), (b"authorization", f"Bearer {key}".encode()), (b"accept", b"*/*")]

        def look_up(check: KeyCheck) -> Callable[[], object]:
            return lambda: check.refusal({"type": "http", "path": _PATH, "headers": headers})

        def admit(*whose: object) -> None:
            with admission.enter("rest", None, *whose) as ticket:  # type: ignore[arg-type]
                ticket.take_prompt(100, lambda: 5)
                ticket.charge()

        scope = _least_us(lambda: {"type": "http", "path": _PATH, "headers": headers})
        looked_up, let_through = (_least_us(look_up(check)) for check in checks)
        admitted, without = _least_us(lambda: admit(tenant)), _least_us(admit)
    return looked_up - let_through + admitted - without, let_through - scope


def _least_us(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, number=_CALLS, repeat=_ROUNDS)) / _CALLS * 1e6


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.key_cost", description=__doc__)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=4)
    options = parser.parse_args(argv)
    added, without = asyncio.run(measure(options.keys, options.processes))
    print(f"a key adds {added:.2f} us to a request; without keys the check takes {without:.2f} us")
    return int(added > BOUND_US or without > BOUND_WITHOUT_US)


if __name__ == "__main__":
    raise SystemExit(main())
