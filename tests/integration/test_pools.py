"""Two workers of every role: they share the work, keep cache hits, and replace one that is killed."""

from __future__ import annotations

import asyncio
import functools
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from perigee.v1 import admin_pb2, admin_pb2_grpc
from tests.support.stack import Stack
from tests.support.traffic import Answer, Traffic, mixture
from tests.support.waiting import until, wait_until

REPLICAS = {"vision": 2, "prefill": 2, "decode": 2}
SMALL = {"kv_pages": 400}
STREAMS = 10


@pytest.fixture(scope="module")
def fleet(nano_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway and six workers."""
    flags = {"prefill": SMALL, "decode": SMALL}
    with Stack(nano_dir, tmp_path_factory.mktemp("fleet"), flags, replicas=REPLICAS) as stack:
        stack.start()
        wait_until_whole(stack)
        yield stack


def workers_known(fleet: Stack) -> int:
    """How many workers the gateway reaches."""
    with grpc.insecure_channel(fleet.operator_address) as channel:
        answer = admin_pb2_grpc.AdminServiceStub(channel).ListWorkers(admin_pb2.ListWorkersRequest())
        return sum(worker.reachable for worker in answer.workers)


def wait_until_whole(fleet: Stack, timeout_s: float = 60.0) -> None:
    wait_until(lambda: workers_known(fleet) == 6, timeout_s)


def is_busy(fleet: Stack, name: str) -> bool:
    """Whether the worker is at a request that has its first token."""
    return fleet.metrics(name)["perigee_requests_running", ()] > 0


def work_done(fleet: Stack, name: str) -> float:
    """A number that grows with every request a worker serves."""
    metrics = fleet.metrics(name)
    role = name.partition("-")[0]
    if role == "decode":
        return metrics["perigee_kv_transfer_bytes_total", ()]
    if role == "vision":
        return metrics["perigee_vision_cache_misses_total", ()]
    return sum(fleet.pages(name)[state] for state in ("used", "cached", "leased"))


def test_mixed_traffic_is_served_by_every_replica(fleet):
    async def go() -> list[Answer]:
        async with Traffic(fleet.base_url) as traffic:
            return await traffic.ask_all(mixture(STREAMS, max_tokens=30))

    answers = asyncio.run(go())
    assert [answer.error for answer in answers] == [None] * STREAMS
    work = {name: work_done(fleet, name) for name in fleet.names if name != "gateway"}
    print(work)
    assert all(work.values()), work


def test_killing_a_worker_of_each_role_changes_no_text(fleet):
    early, late = mixture(STREAMS // 2, 101, max_tokens=80), mixture(STREAMS // 2, 201, max_tokens=30)

    async def ask(name: str) -> list[Answer]:
        async with Traffic(fleet.base_url) as traffic:
            if not name:
                return await traffic.ask_all([*early, *late])
            kill = functools.partial(fleet.processes[name].send_signal, signal.SIGKILL)
            return await traffic.ask_through(early, late, kill, cache_salt=f"killed {name}")

    expected = [answer.text for answer in asyncio.run(ask(""))]
    assert len(set(expected)) == STREAMS
    for name in REPLICAS:
        started = time.monotonic()
        answers = asyncio.run(ask(name))
        print(f"{name} killed: all ended {time.monotonic() - started:.1f} s after the first was asked")
        assert [answer.error for answer in answers] == [None] * STREAMS
        assert [answer.text for answer in answers] == expected
        fleet.processes[name].wait()
        fleet.start(name)
        wait_until_whole(fleet)
    assert "going on elsewhere" in fleet.log("gateway")
    fleet.wait_until_free(20, tuple(name for name in fleet.names if name != "gateway"))


def test_a_drained_worker_gets_nothing_new_and_finishes_what_it_has(fleet):
    name = "decode-1"
    bodies = mixture(STREAMS, 301, max_tokens=30)

    async def go() -> list[Answer]:
        async with Traffic(fleet.base_url) as traffic:
            asking = [asyncio.create_task(traffic.ask(body)) for body in bodies]
            await until(lambda: asyncio.to_thread(is_busy, fleet, name), 60)
            fleet.signal(name, signal.SIGTERM)
            asking += [asyncio.create_task(traffic.ask(body)) for body in bodies]
            return await asyncio.gather(*asking)

    answers = asyncio.run(go())
    assert [answer.error for answer in answers] == [None] * (2 * STREAMS)
    assert [a.text for a in answers[:STREAMS]] == [a.text for a in answers[STREAMS:]]
    assert fleet.processes[name].wait(60) == 0
    fleet.start(name)
    wait_until_whole(fleet)
