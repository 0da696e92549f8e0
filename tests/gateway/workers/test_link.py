"""Watching one worker."""

import asyncio

import pytest
from structlog.testing import capture_logs

from perigee.v1 import worker_pb2
from services.common.errors import Unavailable
from services.gateway.workers.link import WorkerLink
from tests.gateway.fakes import FakeServer, FakeWorker
from tests.gateway.suite import wait_until
from tests.support.endpoints import open_channel
from tests.support.manual_clock import ManualClock
from tests.support.virtual_time import advance, idle
from tests.support.waiting import let_tasks_run

PREFILL, DECODE = worker_pb2.WORKER_ROLE_PREFILL, worker_pb2.WORKER_ROLE_DECODE


@pytest.fixture
async def watch():
    """Watches an address; ends with the test."""
    opened = []

    def begin(role, address):
        link = WorkerLink(role, address, open_channel(address))
        opened.append((link, asyncio.create_task(link.run())))
        return link

    yield begin
    for link, task in opened:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await link.channel.close(grace=None)


async def test_a_worker_that_goes_and_comes_back_behind_its_address_is_found_again(watch):
    worker = FakeWorker(PREFILL)
    server = await FakeServer.start(worker)
    link = watch(PREFILL, server.address)
    await wait_until(lambda: link.serving)
    await server.stop()
    await wait_until(lambda: not link.reachable)
    assert link.info is None
    successor = FakeWorker(PREFILL)
    successor.info.incarnation = "the next one"
    again = await FakeServer.start(successor, port=int(server.address.rpartition(":")[2]))
    await wait_until(lambda: link.serving)
    assert link.info.incarnation == "the next one"
    await again.stop()


async def test_a_load_report_is_heard_as_it_changes(watch):
    worker = FakeWorker(PREFILL)
    server = await FakeServer.start(worker)
    link = watch(PREFILL, server.address)
    await wait_until(lambda: link.serving)
    worker.load.waiting = 5
    await wait_until(lambda: link.requests == 5)
    worker.load.draining = True
    await wait_until(lambda: not link.serving)
    assert link.reachable
    await server.stop()


async def test_what_a_worker_has_cached_is_known_until_it_goes(watch):
    worker = FakeWorker(PREFILL)
    worker.load.cache.CopyFrom(worker_pb2.CacheChanges(reset=True, added=[1, 2, 3]))
    server = await FakeServer.start(worker)
    link = watch(PREFILL, server.address)
    await wait_until(lambda: link.cached.prefix([1, 2, 3, 4]) == 3)
    worker.load.cache.CopyFrom(worker_pb2.CacheChanges(added=[4], removed=[2]))
    await wait_until(lambda: 4 in link.cached)
    assert link.cached.prefix([1, 2, 3, 4]) == 1
    assert link.cached.prefix([2, 1]) == 0
    worker.load.cache.CopyFrom(worker_pb2.CacheChanges(reset=True, added=[9]))
    await wait_until(lambda: 9 in link.cached)
    assert 1 not in link.cached
    await server.stop()
    await wait_until(lambda: not link.reachable)
    assert 9 not in link.cached


async def test_a_worker_of_another_role_is_not_used(watch):
    server = await FakeServer.start(FakeWorker(PREFILL))
    with capture_logs() as logs:
        link = watch(DECODE, server.address)
        await wait_until(lambda: logs)
    assert logs[0]["event"] == "worker has another role"
    assert not link.reachable
    await server.stop()


class Restarting:
    """A worker's stub: each attempt finds the next of `incarnations`, whose load stream the test ends."""

    def __init__(self, *incarnations):
        self.left = list(incarnations)
        self.ended = asyncio.Event()

    async def GetInfo(self, request, timeout):
        return worker_pb2.WorkerInfo(role=PREFILL, incarnation=self.left[0])

    async def WatchLoad(self, request):
        yield worker_pb2.LoadReport()
        await self.ended.wait()
        self.ended.clear()
        self.left.pop(0)


@pytest.mark.virtual_time
async def test_the_last_restart_is_the_time_from_the_loss_of_one_incarnation_to_the_next_one():
    clock = ManualClock()
    async with open_channel("127.0.0.1:1") as channel:
        link = WorkerLink(PREFILL, "127.0.0.1:1", channel, clock=clock)
        link.stub = Restarting("first", "first", "second", "third")
        watching = asyncio.create_task(link.run())
        await idle()
        seen = []
        for away_s in (5.0, 40.0, 7.0):
            link.stub.ended.set()
            await idle()
            assert not link.reachable
            clock.now += away_s
            await advance(1.0)
            assert link.reachable
            seen.append(link.last_restart_s)
        watching.cancel()
    assert seen == [0.0, 40.0, 7.0]  # a connection that broke to a worker that stayed is no restart


class AbsentWorker:
    """A worker's stub that fails; `attempts` counts how often."""

    attempts = 0

    async def GetInfo(self, request, timeout):
        self.attempts += 1
        raise Unavailable("nobody answers")


async def test_an_absent_worker_is_reported_once_not_at_every_attempt(watch):
    with capture_logs() as logs:
        link = watch(PREFILL, "127.0.0.1:1")
        link.stub = AbsentWorker()
        await wait_until(lambda: link.stub.attempts >= 3)
    assert [line["event"] for line in logs] == ["worker unreachable"]


class OneReport:
    """A worker's stub whose load stream gives one report and ends when told."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def GetInfo(self, request, timeout):
        return worker_pb2.WorkerInfo(role=PREFILL)

    async def WatchLoad(self, request):
        yield worker_pb2.LoadReport()
        await self.ended.wait()


@pytest.mark.parametrize("turns_of_the_loop", range(6))
async def test_a_cancellation_that_races_with_the_end_of_the_stream_is_not_lost(turns_of_the_loop):
    async with open_channel("127.0.0.1:1") as channel:
        link = WorkerLink(PREFILL, "127.0.0.1:1", channel)
        link.stub = OneReport()
        task = asyncio.create_task(link.run())
        await wait_until(lambda: link.serving)
        link.stub.ended.set()
        await let_tasks_run(turns_of_the_loop)
        task.cancel()
        await asyncio.wait({task}, timeout=30)
        assert task.cancelled()


async def test_a_link_that_is_cancelled_as_its_call_fails_ends(monkeypatch):
    entered = asyncio.Event()

    async def watch(link, backoff):
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if running.cancelling() > 1:
                raise
            raise Unavailable("gone") from None

    monkeypatch.setattr(WorkerLink, "_watch", watch)
    running = asyncio.create_task(WorkerLink(PREFILL, "127.0.0.1:1", open_channel("127.0.0.1:1")).run())
    await entered.wait()
    running.cancel()
    await asyncio.wait({running}, timeout=5)
    assert running.cancelled()


class Reporting:
    """A worker's stub that reports every half second of the loop's time, until `silent`."""

    silent = False

    async def GetInfo(self, request, timeout):
        return worker_pb2.WorkerInfo(role=PREFILL)

    async def WatchLoad(self, request):
        while True:
            if not self.silent:
                await let_tasks_run()  # a connection is read later than timers run
                yield worker_pb2.LoadReport()
            await asyncio.sleep(0.5)


@pytest.mark.virtual_time
async def test_a_gateway_that_stood_still_takes_no_worker_for_silent_but_one_that_is():
    async with open_channel("127.0.0.1:1") as channel:
        link = WorkerLink(PREFILL, "127.0.0.1:1", channel)
        link.stub = Reporting()
        with capture_logs() as logs:
            watching = asyncio.create_task(link.run())
            await advance(3.2)
            asyncio.get_running_loop().stand_still(60.0)
            await advance(3.0)
            assert link.reachable
            assert [line["event"] for line in logs] == ["worker reachable"]
            link.stub.silent = True
            await advance(9.0)
            assert link.reachable
            await advance(2.0)
            assert logs[1]["event"] == "worker fell silent"
        watching.cancel()
