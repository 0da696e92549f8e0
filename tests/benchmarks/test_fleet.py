"""What the fleets of benchmarks start."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fleet import Fleet
from benchmarks.interference import begin_apart, begin_together


class NotedFleet(Fleet):
    """Starts nothing: notes each process's role, cores and flags."""

    def __init__(self):
        super().__init__(Path("model"), Path("logs"))
        self.noted = []

    def _start(self, role, cores, flags, address, within=()):
        self.noted.append((role, list(cores), flags))


@pytest.fixture
def fleet():
    return NotedFleet()


def test_decode_may_ask_the_prefill_workers_of_its_fleet(fleet):
    begin_apart(fleet, decode_core=0, prefill_core=1)
    (_, at, prefill), (_, cores, decode), (_, beside, gateway) = fleet.noted
    assert [role for role, *_ in fleet.noted] == ["prefill", "decode", "gateway"]
    assert decode["prefill_pool"] == gateway["prefill"] == f"127.0.0.1:{prefill['port']}"
    assert (cores, at, beside) == ([0], [1], [1])


def test_without_prefill_workers_there_is_none_to_ask(fleet):
    begin_together(fleet, 64, (0, 1))
    *workers, (_, _, gateway) = fleet.noted
    assert [(flags["prefill_pool"], flags["chunk_tokens"], cores) for _, cores, flags in workers] == [
        ("", 64, [0]),
        ("", 64, [1]),
    ]
    assert gateway["prefill"] == ""


def test_a_benchmark_may_name_others(fleet):
    fleet.worker("decode", [0], {"prefill_pool": "elsewhere:1"})
    assert fleet.noted[0][2]["prefill_pool"] == "elsewhere:1"
