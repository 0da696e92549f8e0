"""A prefill worker, put together."""

from __future__ import annotations

import asyncio

from perigee.v1 import prefill_pb2_grpc, worker_pb2
from services.common.errors import ConfigError
from services.common.metrics import new_registry
from services.engine.kv_pages import PAGE_TOKENS
from services.engine.load_metrics import LoadMetrics
from services.engine.loop import EngineLoop
from services.engine.text_worker import TextWorker, build_text_worker
from services.engine.worker_server import Endings, failure_future, serve_metrics, serve_worker, tune_process
from services.engine.worker_service import WorkerServicer
from services.prefill.config import PrefillConfig
from services.prefill.engine import PrefillEngine, PrefillLimits
from services.prefill.server import PrefillServicer


class PrefillHost:
    """The worker behind WorkerService."""

    def __init__(self, worker: TextWorker, engine: PrefillEngine, loop: EngineLoop) -> None:
        self._worker = worker
        self._engine = engine
        self._loop = loop
        self._draining = False

    def info(self) -> worker_pb2.WorkerInfo:
        return self._worker.info

    def offer(self) -> worker_pb2.MemoryOffer:
        return self._worker.offer

    def load(self) -> worker_pb2.LoadReport:
        load = self._engine.load
        pages = worker_pb2.PageCounts(**vars(load.pages))
        return worker_pb2.LoadReport(
            running=load.running, waiting=load.waiting, pages=pages, draining=self._draining
        )

    def leases_settled(self, reader: str, lease_keys: list[int]) -> None:
        self._loop.post(lambda: self._engine.settled(reader, lease_keys))

    def reader_joined(self, reader: str) -> None:
        self._loop.post(lambda: self._engine.reader_joined(reader))

    def reader_gone(self, reader: str) -> None:
        self._loop.post(lambda: self._engine.reader_gone(reader))

    async def flush(self) -> worker_pb2.FlushResponse:
        pages = await asyncio.wrap_future(self._loop.call(self._engine.flush))
        return worker_pb2.FlushResponse(pages=pages)

    async def drain(self) -> worker_pb2.DrainResponse:
        self._draining = True
        outstanding = await asyncio.wrap_future(self._loop.call(self._engine.drain))
        return worker_pb2.DrainResponse(outstanding=outstanding)


async def serve(config: PrefillConfig, stop: asyncio.Event) -> None:
    """Runs a prefill worker until `stop` is set and what it owes is done."""
    if config.chunk_tokens < PAGE_TOKENS or config.chunk_tokens % PAGE_TOKENS:
        raise ConfigError(f"chunk_tokens is {config.chunk_tokens}; it must be a multiple of {PAGE_TOKENS}")
    tune_process(config.threads)
    worker = await build_text_worker(config, worker_pb2.WORKER_ROLE_PREFILL, config.layers_per_group)
    failure, fail = failure_future()

    def on_serving(serving: bool) -> None:
        (worker.transfer.pin_serving if serving else worker.transfer.unpin_serving)()

    limits = PrefillLimits(
        config.chunk_tokens, config.max_waiting, config.lease_seconds, config.checksum_fraction
    )
    engine = PrefillEngine(worker.runner, worker.kv_pages, limits, on_serving)
    loop = EngineLoop("prefill-engine", engine.step, fail)
    host = PrefillHost(worker, engine, loop)
    worker_servicer = WorkerServicer(host)
    servicer = PrefillServicer(engine, loop, worker.embeddings, worker_servicer.is_paired, worker.vocab_size)
    registry = new_registry("prefill")
    LoadMetrics(
        registry,
        host.load,
        {
            "perigee_kv_transfer_bytes": ("Bytes of KV read from peers", lambda: 0),
            "perigee_integrity_failures": (
                "Integrity checks of the page pool that failed",
                lambda: engine.load.integrity_failures,
            ),
        },
    )
    worker.info.metrics_port = serve_metrics(registry, config.host, config.metrics_port)
    endings = Endings(failure, config.max_quarantined_pages or config.kv_pages // 2)
    loop.start()
    try:
        await serve_worker(
            config,
            host,
            worker_servicer,
            [
                (
                    "perigee.v1.PrefillService",
                    lambda server: prefill_pb2_grpc.add_PrefillServiceServicer_to_server(servicer, server),
                )
            ],
            stop,
            endings,
            config.lease_seconds,
        )
    finally:
        await asyncio.to_thread(loop.stop)
        await worker.close()
