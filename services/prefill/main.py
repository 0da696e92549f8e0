"""A prefill worker, put together."""

from __future__ import annotations

import asyncio

import grpc

from perigee.v1 import prefill_pb2_grpc, worker_pb2
from services.engine.loop import EngineLoop
from services.engine.text_host import TextHost
from services.engine.text_server import check_chunk_tokens, serve_text_worker
from services.engine.text_worker import TextWorker, build_text_worker
from services.engine.worker_server import failure_future, tune_process
from services.engine.worker_service import WorkerServicer
from services.prefill.config import PrefillConfig
from services.prefill.engine import PrefillEngine
from services.prefill.limits import PrefillLimits
from services.prefill.server import PrefillServicer


class PrefillHost(TextHost):
    """A text worker whose pages are lent: readers' news go to the engine's lease table."""

    def __init__(self, worker: TextWorker, engine: PrefillEngine, loop: EngineLoop) -> None:
        super().__init__(worker, engine, loop)
        self._lessor = engine

    def leases_settled(self, reader: str, lease_keys: list[int]) -> None:
        self.loop.post(lambda: self._lessor.settled(reader, lease_keys))

    def reader_joined(self, reader: str) -> None:
        self.loop.post(lambda: self._lessor.reader_joined(reader))

    def reader_gone(self, reader: str) -> None:
        self.loop.post(lambda: self._lessor.reader_gone(reader))


async def serve(config: PrefillConfig, stop: asyncio.Event) -> None:
    """Runs a prefill worker until `stop` is set and what it owes is done."""
    check_chunk_tokens(config.chunk_tokens)
    tune_process(config.threads)
    worker = await build_text_worker(config, worker_pb2.WORKER_ROLE_PREFILL, config.layers_per_group)
    failure, fail = failure_future()

    def on_serving(serving: bool) -> None:
        (worker.transfer.pin_serving if serving else worker.transfer.unpin_serving)()

    checksum_fraction = 0.0 if worker.kv_pages.is_cuda else config.checksum_fraction
    limits = PrefillLimits(config.chunk_tokens, config.max_waiting, config.lease_seconds, checksum_fraction)
    engine = PrefillEngine(worker.runner, worker.kv_pages, limits, on_serving)
    loop = EngineLoop("prefill-engine", engine.step, fail)
    host = PrefillHost(worker, engine, loop)
    worker_servicer = WorkerServicer(host)
    context_length = worker.info.model.context_length
    servicer = PrefillServicer(
        engine, loop, worker.embeddings, worker_servicer.is_paired, worker.vocab_size, context_length
    )

    def add_service(server: grpc.aio.Server) -> None:
        prefill_pb2_grpc.add_PrefillServiceServicer_to_server(servicer, server)

    await serve_text_worker(
        config,
        "prefill",
        host,
        worker_servicer,
        ("perigee.v1.PrefillService", add_service),
        {"perigee_kv_transfer_bytes": ("Bytes of KV read from peers", lambda: 0)},
        stop,
        failure,
        config.lease_seconds,
    )
