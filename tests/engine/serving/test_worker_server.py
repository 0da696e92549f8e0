"""A worker's server, from start to the last request it owes an answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc

from perigee.v1 import worker_pb2, worker_pb2_grpc
from services.common.errors import InternalError, Unavailable
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from services.engine.serving.worker_server import ShutdownTriggers, failure_future, serve_worker
from services.engine.serving.worker_service import WorkerServicer
from tests.support.endpoints import ENDPOINTS, open_channel
from tests.support.fake_runner import HIDDEN, fake_pages
from tests.support.manual_clock import ManualClock
from tests.support.owner import RecordingBackend, transfer_thread
from tests.support.stack import free_port
from tests.support.waiting import until


@dataclass
class Settings:
    host: str
    port: int
    grace_seconds: float


class Served:
    """A worker under `serve_worker`."""

    def __init__(
        self, backend: RecordingBackend, grace_s: float = 5.0, can_transfer=lambda: True, lease_s: float = 0.0
    ) -> None:
        self.backend = backend
        self.stop = asyncio.Event()
        self.failure, self.fail = failure_future()
        settings = Settings("127.0.0.1", free_port(), grace_s)
        self.address = f"127.0.0.1:{settings.port}"
        self.clock = ManualClock()
        triggers = ShutdownTriggers(self.failure, 10, can_transfer, watch_s=0.005)
        servicer = WorkerServicer(backend)
        self.task = asyncio.create_task(
            serve_worker(
                settings, ENDPOINTS, backend, servicer, [], self.stop, triggers, lease_s, clock=self.clock
            )
        )

    async def health(self, service: str = "") -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        async with open_channel(self.address) as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(request)
            except grpc.aio.AioRpcError:
                return -1
        return answer.status

    async def ready(self) -> None:
        async with open_channel(self.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(), wait_for_ready=True
            )
            async for answer in watch:
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return


@pytest.fixture
def backend():
    pages = fake_pages(4)
    thread = transfer_thread("owner", MemoryFabric(), pages, torch.zeros(2, 64, HIDDEN))
    yield RecordingBackend("owner-1", thread, pages)
    thread.close()


async def test_an_idle_worker_drains_and_stops_when_told(backend):
    served = Served(backend)
    await served.ready()
    async with open_channel(served.address) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        assert (await stub.GetInfo(worker_pb2.GetInfoRequest())).incarnation == "owner-1"
    assert backend.heard == []
    served.stop.set()
    await asyncio.wait_for(served.task, 5)
    assert backend.heard == [("drain",)]
    assert await served.health() == -1


@pytest.mark.parametrize("owed", ["running", "waiting", "leased"])
async def test_what_is_owed_is_done_before_the_end_though_nothing_new_is_wanted(backend, owed):
    served = Served(backend)
    await served.ready()
    target = backend.report.pages if owed == "leased" else backend.report
    setattr(target, owed, 1)
    served.stop.set()
    await until(lambda: backend.heard == [("drain",)])
    await backend.looks(3)
    assert not served.task.done()
    assert await served.health() == health_pb2.HealthCheckResponse.NOT_SERVING
    setattr(target, owed, 0)
    await asyncio.wait_for(served.task, 5)


async def test_health_says_whether_the_worker_drains(backend):
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    served = Served(backend)
    await served.ready()
    await backend.looks(2)
    assert (await served.health(), await served.health("draining")) == (serving, not_serving)
    backend.report.draining = True
    await backend.looks(2)
    assert (await served.health(), await served.health("draining")) == (serving, serving)
    backend.report.draining = False
    await backend.looks(2)
    assert await served.health("draining") == not_serving
    backend.report.running = 1
    served.stop.set()
    await until(lambda: backend.heard == [("drain",)])
    assert (await served.health(), await served.health("draining")) == (not_serving, serving)
    backend.report.running = 0
    await asyncio.wait_for(served.task, 5)


async def test_a_worker_that_stops_cannot_be_undrained(backend):
    backend.report.running = 1
    served = Served(backend)
    await served.ready()
    async with open_channel(served.address) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        await stub.Undrain(worker_pb2.UndrainRequest())
        served.stop.set()
        await until(lambda: backend.heard == [("undrain",), ("drain",)])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Undrain(worker_pb2.UndrainRequest())
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "owner-1 is stopping" in caught.value.details()
    assert backend.report.draining
    backend.report.running = 0
    await asyncio.wait_for(served.task, 5)


async def test_the_grace_period_bounds_the_end(backend):
    backend.report.running = 1
    served = Served(backend, grace_s=60.0)
    await served.ready()
    served.stop.set()
    await until(lambda: backend.heard == [("drain",)])
    served.clock.now += 59.9
    await backend.looks(3)
    assert not served.task.done()
    served.clock.now += 0.1
    await asyncio.wait_for(served.task, 5)


async def test_a_broken_thread_ends_the_worker_with_its_reason(backend):
    served = Served(backend)
    await served.ready()
    served.fail(InternalError("the pool is inconsistent"))
    served.fail(InternalError("a second word"))
    with pytest.raises(InternalError, match="the pool is inconsistent"):
        await asyncio.wait_for(served.task, 5)
    assert backend.heard == []


async def test_a_thread_that_breaks_while_draining_does_not_hang_the_worker(backend, monkeypatch):
    draining = asyncio.Event()

    async def drain() -> worker_pb2.DrainResponse:
        draining.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(backend, "drain", drain)
    served = Served(backend, grace_s=60)
    await served.ready()
    served.stop.set()
    await draining.wait()
    served.fail(ValueError("broken state"))
    with pytest.raises(Unavailable, match="broken state"):
        await asyncio.wait_for(served.task, 5)


async def test_the_end_of_the_transfer_thread_ends_the_worker(backend):
    alive = True
    served = Served(backend, can_transfer=lambda: alive)
    await served.ready()
    assert not served.task.done()
    alive = False
    with pytest.raises(Unavailable, match="transfer thread"):
        await asyncio.wait_for(served.task, 5)


async def test_quarantine_that_stays_too_large_for_a_lease_ends_the_worker_after_what_runs(backend):
    served = Served(backend, lease_s=10)
    await served.ready()
    for quarantined in (9, 10, 9, 10):
        backend.report.pages.quarantined = quarantined
        await backend.looks(3)
        served.clock.now += 9.5
        await backend.looks(3)
        assert backend.heard == [], "readers have settled within a lease"
    backend.report.running = 1
    served.clock.now += 0.5
    await until(lambda: backend.heard == [("drain",)])
    await backend.looks(3)
    assert not served.task.done()
    backend.report.running = 0
    with pytest.raises(Unavailable, match="10 pages are in quarantine"):
        await asyncio.wait_for(served.task, 5)
