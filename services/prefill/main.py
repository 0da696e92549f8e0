"""Builds and serves a prefill worker."""

from __future__ import annotations

import asyncio
import os
from functools import partial

import grpc

from perigee.v1 import prefill_pb2_grpc, worker_pb2
from services.common.rpc.endpoints import Endpoints
from services.common.telemetry.opened_tracer import opened_tracer
from services.common.telemetry.tracer import Tracer
from services.common.telemetry.worker_metrics import TextWorkerMetrics
from services.engine.loading.hardware import compute_on, parse_device
from services.engine.serving.loop import EngineLoop
from services.engine.serving.text_backend import TextWorkerBackend
from services.engine.serving.text_server import Counters, check_chunk_tokens, serve_text_worker
from services.engine.serving.text_worker import build_text_worker
from services.engine.serving.worker_server import failure_future, tune_process
from services.engine.serving.worker_service import WorkerServicer
from services.prefill.config import PrefillConfig
from services.prefill.engine import PrefillEngine
from services.prefill.job import Job
from services.prefill.job_measures import STAGES
from services.prefill.limits import PrefillLimits
from services.prefill.server import PrefillServicer
from services.prefill.source import SourceResult
from services.prefill.source_reader import SourceReader


async def serve(config: PrefillConfig, endpoints: Endpoints, stop: asyncio.Event) -> None:
    """Runs a prefill worker until `stop` is set, then drains it."""
    with opened_tracer(endpoints.role, os.environ) as tracer:
        await _serve(config, endpoints, stop, tracer)


async def _serve(
    config: PrefillConfig, endpoints: Endpoints, stop: asyncio.Event, tracer: Tracer | None
) -> None:
    chunk_tokens = config.chunk_on(parse_device(config.device).type)
    check_chunk_tokens(chunk_tokens)
    tune_process(config.threads)
    worker = await build_text_worker(
        config, endpoints, worker_pb2.WORKER_ROLE_PREFILL, config.layers_per_group
    )
    failure, fail = failure_future()

    def on_source_end(job: Job, result: SourceResult) -> None:
        loop.post(lambda: engine.source_ended(job, result))

    def on_settled(pages: tuple[int, ...]) -> None:
        loop.post(lambda: engine.pages_settled(pages))

    num_layers = worker.config.text.num_hidden_layers
    source = SourceReader(worker.peers, worker.transfer, num_layers, on_source_end, on_settled)

    checksum_fraction = 0.0 if worker.kv_pages.is_cuda else config.checksum_fraction
    limits = PrefillLimits(chunk_tokens, config.max_waiting, config.lease_seconds, checksum_fraction)
    metrics = TextWorkerMetrics(STAGES)
    engine = PrefillEngine(
        worker.runner,
        worker.kv_pages,
        limits,
        worker.transfer.set_serving,
        source,
        metrics=metrics,
        tracer=tracer,
    )
    loop = EngineLoop("prefill-engine", engine.step, fail, watch=worker.watch)
    loop.post(partial(compute_on, worker.kv_pages.device))
    backend = TextWorkerBackend(worker, engine, engine, loop)
    worker_servicer = WorkerServicer(backend)
    context_length = worker.info.model.context_length
    servicer = PrefillServicer(
        engine,
        loop,
        worker.embeddings,
        worker_servicer.readers.authenticate,
        worker.vocab_size,
        context_length,
        tracer,
    )

    def add_service(server: grpc.aio.Server) -> None:
        prefill_pb2_grpc.add_PrefillServiceServicer_to_server(servicer, server)

    await serve_text_worker(
        config,
        endpoints,
        backend,
        worker_servicer,
        [("perigee.v1.PrefillService", add_service)],
        _counters(engine),
        metrics,
        stop,
        failure,
    )


def _counters(engine: PrefillEngine) -> Counters:
    return {
        "perigee_kv_transfer_bytes": ("Bytes of KV read from peers", lambda: engine.load.transfer_bytes),
        "perigee_prefill_computed_tokens": (
            "Prompt tokens computed, neither cached nor read from a peer",
            lambda: engine.load.computed_tokens,
        ),
    }
