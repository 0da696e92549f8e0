"""Measures what one API key's flood does to another key's time to the first token.

python -m benchmarks.tenants [FLOOD ...] [--model DIR] [--seconds 20] [--rate 16] [--flood-concurrent N]

Starts a gateway and a worker of each role, and makes two keys. The steady one asks `--rate` times a second,
whatever comes back; the other one floods (benchmarks/floods.py). For each kind of flood the steady key is
measured alone, with the flood, and alone again, in one go: the ratio is that of the 99th percentiles.
`--flood-concurrent` limits the flooding key; by default it has its share. Exits with 1 if a ratio is over 2,
if a request of the steady key was refused, or if the flood broke anything.

Both keys use the gateway and the decode worker. Only the flood uses the others: its client, and the vision
and prefill workers (decode computes prompts as short as the steady key's itself). Where they are real they
have hardware of their own, so here they get what the first two leave of one core; decode has another core.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from benchmarks.child import Child
from benchmarks.fleet import Fleet
from benchmarks.floods import FLOODS
from benchmarks.result import write_result
from services.gateway.access.key_file import KeyFile
from services.gateway.access.key_record import KeyRecord
from services.gateway.access.secret import digest, new_key

BOUND = 2.0
_SETTLE_S = 3.0
_PROMPT_TOKENS, _ANSWER_TOKENS = 100, 8
_FLOOD_ENDS = {"200", "429", "RESOURCE_EXHAUSTED"}
_LAST = ("nice", "-n", "19")
"""What runs so gets the processor when nobody else wants it."""


@dataclass(frozen=True)
class Row:
    """The effect of one flood on the steady key; times to the first token in ms."""

    flood: str
    requests: int
    alone_p50: float
    alone_p99: float
    p50: float
    p99: float
    ratio: float
    answers: dict[str, int]
    flooded: dict[str, int]


class Steady:
    """A client that asks at a fixed rate, each time with another prompt."""

    def __init__(self, url: str, key: str, rate: float) -> None:
        self._url = url
        self._headers = {"authorization": f"Bearer {key}"}
        self._rate = rate
        self._dice = random.Random(1)
        self.answers: Counter[str] = Counter()

    def measure(self, seconds: float) -> list[float]:
        """Returns the times to the first token of so many seconds of requests, in ms, sorted."""
        return sorted(asyncio.run(self._measure(seconds)))

    async def _measure(self, seconds: float) -> list[float]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=self._url, headers=self._headers, timeout=120, trust_env=False, limits=limits
        ) as client:
            tasks, began = [], time.monotonic()
            for number in range(int(seconds * self._rate)):
                await asyncio.sleep(max(0.0, began + number / self._rate - time.monotonic()))
                tasks.append(asyncio.create_task(self._ask(client)))
            return [each for each in await asyncio.gather(*tasks) if each is not None]

    async def _ask(self, client: httpx.AsyncClient) -> float | None:
        prompt = [self._dice.randrange(10, 1000) for _ in range(_PROMPT_TOKENS)]
        body = {
            "prompt": prompt, "max_tokens": _ANSWER_TOKENS, "ignore_eos": True, "stream": True,
            "skip_special_tokens": False,
        }  # fmt: skip
        began, first = time.perf_counter(), None
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            self.answers[str(answer.status_code)] += 1
            if answer.status_code != 200:
                return None
            async for line in answer.aiter_lines():
                if first is None and line.startswith("data: {"):
                    first = 1e3 * (time.perf_counter() - began)
        return first


def measure(name: str, steady: Steady, seconds: float, flood: tuple[str, int, str]) -> Row:
    """Measures one flood. `flood`: URL, gRPC port and key."""
    steady.answers.clear()
    # The process is there while the steady key is measured alone, too.
    begins = time.monotonic() + _SETTLE_S + seconds / 2
    child = Child(
        "flood", "benchmarks.floods", "flood_in_child", name, begins, seconds + 2 * _SETTLE_S, *flood
    )
    try:
        time.sleep(_SETTLE_S)
        before = steady.measure(seconds / 2)
        time.sleep(_SETTLE_S)
        under = steady.measure(seconds)
        flooded = child.receive(time.monotonic() + 60)
    finally:
        child.close()
    time.sleep(_SETTLE_S)
    alone = sorted((*before, *steady.measure(seconds / 2)))
    p99 = _at(under, 0.99)
    return Row(
        name, len(under), _at(alone, 0.5), _at(alone, 0.99), _at(under, 0.5), p99, p99 / _at(alone, 0.99),
        dict(steady.answers), flooded,
    )  # fmt: skip


def _at(times: list[float], part: float) -> float:
    return times[min(len(times) - 1, int(part * len(times)))] if times else float("inf")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tenants", description=__doc__)
    parser.add_argument("floods", nargs="*", metavar="FLOOD", help=", ".join(FLOODS))
    parser.add_argument("--model", type=Path, default=Path("models/kimi-nano"))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=16.0, help="requests of the steady key a second")
    parser.add_argument("--flood-concurrent", type=int, default=0, metavar="N")
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the table")
    options = parser.parse_args(argv)
    if unknown := set(options.floods) - set(FLOODS):
        parser.error(f"no such flood: {', '.join(sorted(unknown))}")
    cores = sorted(os.sched_getaffinity(0))
    others = cores[:-1] or cores
    os.sched_setaffinity(0, others)
    keys = {"steady": new_key(), "flood": new_key()}
    with tempfile.TemporaryDirectory() as directory, Fleet(options.model, Path(directory)) as fleet:
        file = KeyFile(Path(directory) / "keys.json")
        for label, key in keys.items():
            limit = options.flood_concurrent if label == "flood" else 0
            file.add(KeyRecord(label, digest(key), ["chat"], max_concurrent=limit))
        vision = fleet.worker("vision", others[:1], within=_LAST)
        prefill = fleet.worker("prefill", others[:1], within=_LAST)
        decode = fleet.worker("decode", cores[-1:])
        url, grpc_port = fleet.both_doors([decode], [prefill], [vision], others, {"api_keys": file.path})
        steady = Steady(url, keys["steady"], options.rate)
        steady.measure(3)  # whatever is made at first use
        rows = []
        print("flood       alone p50   alone p99         p50         p99   ratio  answers; of the flood")
        for name in options.floods or FLOODS:
            row = measure(name, steady, options.seconds, (url, grpc_port, keys["flood"]))
            rows.append(row)
            times = (row.alone_p50, row.alone_p99, row.p50, row.p99)
            print(
                f"{name:10s}" + "".join(f"{each:9.1f} ms" for each in times) + f"{row.ratio:8.2f}"
                f"  {row.answers}; {row.flooded}",
                flush=True,
            )
    write_result(options.out, {"rows": [asdict(row) for row in rows]})
    refused = any(set(row.answers) != {"200"} for row in rows)
    broken = any(set(row.flooded) - _FLOOD_ENDS for row in rows)
    return int(refused or broken or any(row.ratio > BOUND for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
