"""Runs a text worker's server, metrics and engine thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import grpc

from services.common.errors import ConfigError, PerigeeError
from services.common.metrics import new_registry
from services.common.rpc.endpoints import Endpoints
from services.common.telemetry.worker_metrics import TextWorkerMetrics
from services.engine.batch import PAGE_TOKENS
from services.engine.serving.load_metrics import LoadMetrics
from services.engine.serving.process_exit import GONE_S, exit_within
from services.engine.serving.text_backend import TextWorkerBackend
from services.engine.serving.worker_server import (
    ServerSettings,
    ShutdownTriggers,
    serve_metrics,
    serve_worker,
)
from services.engine.serving.worker_service import WorkerServicer

Counters = Mapping[str, tuple[str, Callable[[], int]]]


class TextServerSettings(ServerSettings, Protocol):
    """The settings that prefill and decode workers both have."""

    @property
    def metrics_port(self) -> int: ...
    @property
    def max_quarantined_pages(self) -> int: ...
    @property
    def lease_seconds(self) -> float: ...


def check_chunk_tokens(chunk_tokens: int) -> None:
    """Raises ConfigError unless chunks are whole pages."""
    if chunk_tokens < PAGE_TOKENS or chunk_tokens % PAGE_TOKENS:
        raise ConfigError(f"chunk_tokens is {chunk_tokens}; it must be a multiple of {PAGE_TOKENS}")


async def serve_text_worker(
    config: TextServerSettings,
    endpoints: Endpoints,
    backend: TextWorkerBackend,
    worker_servicer: WorkerServicer,
    services: Sequence[tuple[str, Callable[[grpc.aio.Server], None]]],
    counters: Counters,
    metrics: TextWorkerMetrics,
    stop: asyncio.Event,
    failure: asyncio.Future[None],
) -> None:
    """Starts the backend's loop and serves as `serve_worker` does; then ends the loop and closes the worker.
    If the worker failed, what is to be closed may hang: the process ends in 10 s all the same.

    `counters` are as in LoadMetrics, in addition to those of every engine; `metrics`: what else is shown.
    """
    worker = backend.worker
    max_quarantined = config.max_quarantined_pages or max(1, worker.kv_pages.shape[0] // 2)
    triggers = ShutdownTriggers(failure, max_quarantined, worker.transfer.is_alive, worker.check_ranks)
    integrity = (
        "Integrity checks of the page pool that failed",
        lambda: backend.engine.load.integrity_failures,
    )
    registry = new_registry(endpoints.role)
    LoadMetrics(registry, backend.load, {**counters, "perigee_integrity_failures": integrity})
    registry.register(metrics)
    try:
        worker.info.metrics_port = serve_metrics(registry, endpoints, config.host, config.metrics_port)
        backend.loop.start()
        await serve_worker(
            config, endpoints, backend, worker_servicer, services, stop, triggers, config.lease_seconds
        )
    except PerigeeError:
        exit_within(GONE_S)
        await worker.abort_ranks()
        raise
    finally:
        await asyncio.to_thread(backend.loop.stop)
        await worker.close()
