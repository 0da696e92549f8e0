"""A decode worker, put together."""

from __future__ import annotations

import asyncio
from typing import Any

import torch

from perigee.v1 import decode_pb2_grpc, worker_pb2
from services.common.errors import PerigeeError
from services.common.metrics import new_registry
from services.decode.config import DecodeConfig
from services.decode.engine import DecodeEngine
from services.decode.fetch import FetchOrder, FetchResult
from services.decode.limits import DecodeLimits
from services.decode.remote_prefill import RemotePrefill
from services.decode.request import Prompt
from services.decode.server import DecodeServicer
from services.engine.load_metrics import LoadMetrics
from services.engine.loop import EngineLoop
from services.engine.sampler import Sampler
from services.engine.text_worker import TextWorker, build_text_worker
from services.engine.worker_server import Endings, failure_future, serve_metrics, serve_worker, tune_process
from services.engine.worker_service import WorkerServicer


class DecodeOutside:
    """The engine's way to the event loop and back."""

    def __init__(self, worker: TextWorker, silence_s: float) -> None:
        self._worker = worker
        self._silence_s = silence_s
        self._event_loop = asyncio.get_running_loop()
        self._media: set[asyncio.Task[None]] = set()

    def connect(self, engine: DecodeEngine, loop: EngineLoop) -> None:
        """Names the engine that is to hear the answers; once, before its loop starts."""
        self._engine = engine
        self._loop = loop

        def on_end(prompt: Prompt, result: FetchResult) -> None:
            loop.post(lambda: engine.fetch_ended(prompt, result))

        def on_settled(pages: tuple[int, ...]) -> None:
            loop.post(lambda: engine.pages_settled(pages))

        self._remote = RemotePrefill(
            self._worker.peers,
            self._worker.transfer,
            self._worker.name,
            self._worker.config.text.num_hidden_layers,
            self._silence_s,
            on_end,
            on_settled,
        )

    def start_fetch(self, prompt: Prompt, order: FetchOrder) -> None:
        self._remote.start(prompt, order)

    def stop_fetch(self, prompt: Prompt) -> None:
        self._remote.stop(prompt)

    def start_media(self, prompt: Prompt, indices: tuple[int, ...]) -> None:
        self._event_loop.call_soon_threadsafe(self._start_media, prompt, indices)

    def _start_media(self, prompt: Prompt, indices: tuple[int, ...]) -> None:
        task = asyncio.create_task(self._fetch_media(prompt, indices))
        self._media.add(task)
        task.add_done_callback(self._media.discard)

    async def _fetch_media(self, prompt: Prompt, indices: tuple[int, ...]) -> None:
        media = prompt.request.media
        try:
            rows = await asyncio.gather(*(self._worker.embeddings.fetch(media[index]) for index in indices))
        except PerigeeError as error:
            failure = error
            self._loop.post(lambda: self._engine.media_failed(prompt, failure))
            return
        embeddings: dict[int, torch.Tensor] = dict(zip(indices, rows, strict=True))
        self._loop.post(lambda: self._engine.media_arrived(prompt, embeddings))


class DecodeHost:
    """The worker behind WorkerService. Nobody reads a decode worker's memory yet: leases are never
    granted."""

    def __init__(self, worker: TextWorker, engine: DecodeEngine, loop: EngineLoop) -> None:
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
        """No lease of ours can be meant."""

    def reader_joined(self, reader: str) -> None:
        """Nothing to prepare."""

    def reader_gone(self, reader: str) -> None:
        """Nothing to end."""

    async def flush(self) -> worker_pb2.FlushResponse:
        pages = await asyncio.wrap_future(self._loop.call(self._engine.flush))
        return worker_pb2.FlushResponse(pages=pages)

    async def drain(self) -> worker_pb2.DrainResponse:
        self._draining = True
        outstanding = await asyncio.wrap_future(self._loop.call(self._engine.drain))
        return worker_pb2.DrainResponse(outstanding=outstanding)


async def serve(config: DecodeConfig, stop: asyncio.Event) -> None:
    """Runs a decode worker until `stop` is set and what it owes is done."""
    tune_process(config.threads)
    worker = await build_text_worker(config, worker_pb2.WORKER_ROLE_DECODE)
    failure, fail = failure_future()
    context_length = worker.info.model.context_length
    limits = DecodeLimits(
        config.max_running,
        config.max_waiting,
        config.chunk_tokens,
        config.local_prefill_tokens,
        config.headroom_pages,
        context_length,
    )
    outside = DecodeOutside(worker, config.prefill_silence_seconds)
    engine = DecodeEngine(worker.runner, worker.kv_pages, Sampler(worker.vocab_size), limits, outside)
    loop = EngineLoop("decode-engine", engine.step, fail)
    outside.connect(engine, loop)
    host = DecodeHost(worker, engine, loop)
    servicer = DecodeServicer(engine, loop, worker.vocab_size, context_length, config.request_timeout_seconds)
    registry = new_registry("decode")
    LoadMetrics(registry, host.load, _counters(engine))
    worker.info.metrics_port = serve_metrics(registry, config.host, config.metrics_port)
    endings = Endings(failure, config.max_quarantined_pages or config.kv_pages // 2)
    loop.start()
    try:
        await serve_worker(
            config,
            host,
            WorkerServicer(host),
            [
                (
                    "perigee.v1.DecodeService",
                    lambda server: decode_pb2_grpc.add_DecodeServiceServicer_to_server(servicer, server),
                )
            ],
            stop,
            endings,
        )
    finally:
        await asyncio.to_thread(loop.stop)
        await worker.close()


def _counters(engine: DecodeEngine) -> dict[str, Any]:
    return {
        "perigee_kv_transfer_bytes": (
            "Bytes of KV read from peers",
            lambda: engine.load.transfer_bytes,
        ),
        "perigee_preemptions": (
            "Sequences that let go of their pages and were recomputed",
            lambda: engine.load.preemptions,
        ),
        "perigee_integrity_failures": (
            "Integrity checks of the page pool that failed",
            lambda: engine.load.integrity_failures,
        ),
    }
