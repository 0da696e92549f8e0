"""Runs a worker's server until its last request has been answered."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import structlog
import torch
from prometheus_client import CollectorRegistry

from perigee.v1 import worker_pb2, worker_pb2_grpc
from services.common.errors import PerigeeError, Unavailable
from services.common.fairness.cores import switch_quickly
from services.common.metrics import MetricsServer
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.health import DRAINING, Health, add_health
from services.common.rpc.keepalive import Keepalive
from services.engine.serving.worker_service import WorkerBackend, WorkerServicer

log = structlog.get_logger()

_WORKER_SERVICE = "perigee.v1.WorkerService"


class ServerSettings(Protocol):
    """The settings that every worker's configuration has."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def grace_seconds(self) -> float: ...


@dataclass(frozen=True)
class ShutdownTriggers:
    """The conditions under which a worker stops by itself.

    `failure` is set by a thread that failed, `max_quarantined` bounds the quarantined pages, `can_transfer`
    returns whether reads are still carried out, and `check_ranks` raises Unavailable if a process that the
    worker needs has ended. The worker looks at the last three, and at what it still owes, every `watch_s`.
    """

    failure: asyncio.Future[None]
    max_quarantined: int
    can_transfer: Callable[[], bool] = lambda: True
    check_ranks: Callable[[], None] = lambda: None
    watch_s: float = 0.1

    def raise_if_broken(self) -> None:
        """Raises the error of a failed thread; Unavailable if the transfer thread or a rank has ended."""
        if self.failure.done():
            self.failure.result()
        self.check_ranks()
        if not self.can_transfer():
            with contextlib.suppress(Exception):  # stderr may be anything
                faulthandler.dump_traceback()  # shows which call does not return
            raise Unavailable("the transfer thread has ended, or a NIXL call does not return")


def tune_process(threads: int) -> None:
    """Sets the CPU threads of the model, and how long the other threads wait for the interpreter."""
    torch.set_num_threads(threads)
    switch_quickly()


async def serve_worker(
    config: ServerSettings,
    endpoints: Endpoints,
    backend: WorkerBackend,
    worker_servicer: WorkerServicer,
    services: Sequence[tuple[str, Callable[[grpc.aio.Server], None]]],
    stop: asyncio.Event,
    triggers: ShutdownTriggers,
    lease_s: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Serves until `stop` is set; then admits nothing, finishes what runs within the grace period, and
    returns.

    `services` are full names with the functions that add them to a server. `lease_s`: how long the leases
    granted here last; `clock` measures the grace period. Raises Unavailable if a thread failed (at once) or
    quarantine was at its bound for `lease_s` (after what runs): the process must end and be restarted as a
    new incarnation.
    """
    server = endpoints.grpc_server(keepalive=Keepalive.of_lessor(lease_s))
    worker_pb2_grpc.add_WorkerServiceServicer_to_server(worker_servicer, server)
    for _, add in services:
        add(server)
    health = await add_health(server, [_WORKER_SERVICE, *(name for name, _ in services)])
    port = endpoints.bind_grpc(server, config.host, config.port)
    await server.start()
    await health.set_serving()
    info = backend.info()
    log.info(
        "serving", role=worker_pb2.WorkerRole.Name(info.role), address=f"{config.host}:{port}",
        incarnation=info.incarnation, transport=info.transport.transport,
        gigabytes_per_second=round(info.transport.gigabytes_per_second, 2), metrics_port=info.metrics_port,
    )  # fmt: skip
    try:
        reason = await _until_stopped(backend, stop, triggers, health, lease_s, clock)
        worker_servicer.stopping()
        await health.say(DRAINING, serving=True)
        await health.set_not_serving()
        await _finish(backend, triggers, config.grace_seconds, clock)
    finally:
        await server.stop(grace=0.5)
    if reason is not None:
        raise reason


def serve_metrics(registry: CollectorRegistry, endpoints: Endpoints, bind_host: str, port: int) -> int:
    """Starts the /metrics page, which stays until the process ends; returns its port.

    Raises ConfigError if the port cannot be bound.
    """
    return MetricsServer(registry, endpoints.bound_socket(bind_host, port, "--metrics-port")).port


async def _until_stopped(
    backend: WorkerBackend,
    stop: asyncio.Event,
    triggers: ShutdownTriggers,
    health: Health,
    lease_s: float,
    clock: Callable[[], float],
) -> Unavailable | None:
    """Waits until `stop` is set (returns None) or the worker must be restarted (returns the reason).
    Meanwhile `health` says whether an operator drains it.
    """
    draining: bool | None = None
    below_at = clock()
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stopping.done():
            waiting: set[asyncio.Future[Any]] = {stopping, triggers.failure}
            await asyncio.wait(waiting, timeout=triggers.watch_s, return_when=asyncio.FIRST_COMPLETED)
            triggers.raise_if_broken()
            load = backend.load()
            if load.draining is not draining:
                draining = load.draining
                await health.say(DRAINING, serving=draining)
            quarantined = load.pages.quarantined
            # The pages of requests that end while they are read are in quarantine until their reader has
            # settled, which one that lives does within a lease: that is no reason to restart.
            if quarantined < triggers.max_quarantined:
                below_at = clock()
            elif clock() - below_at >= lease_s:
                return Unavailable(
                    f"{quarantined} pages are in quarantine, the bound is {triggers.max_quarantined}: only a "
                    "new incarnation makes them usable again"
                )
        return None
    finally:
        stopping.cancel()


async def _finish(
    backend: WorkerBackend, triggers: ShutdownTriggers, grace_s: float, clock: Callable[[], float]
) -> None:
    """Stops admitting; waits for requests to end and for peers to read what they lease, at most `grace_s`."""
    deadline = clock() + grace_s
    draining = asyncio.create_task(backend.drain())
    try:
        while clock() < deadline:
            # If a thread failed, the drain would never end either.
            triggers.raise_if_broken()
            load = backend.load()
            if draining.done() and not (load.running or load.waiting or load.pages.leased):
                draining.result()
                return
            await asyncio.sleep(triggers.watch_s)
        log.warning("grace period over", running=backend.load().running, waiting=backend.load().waiting)
    finally:
        draining.cancel()


def failure_future() -> tuple[asyncio.Future[None], Callable[[BaseException], None]]:
    """A future for `ShutdownTriggers`, and the function with which a failed thread sets it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def set_once(reason: PerigeeError) -> None:
        if not future.done():
            future.set_exception(reason)

    def fail(error: BaseException) -> None:
        reason = (
            error
            if isinstance(error, PerigeeError)
            else Unavailable(f"a thread of the worker failed: {error}")
        )
        loop.call_soon_threadsafe(set_once, reason)

    return future, fail
