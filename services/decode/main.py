"""Builds and serves a decode worker."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import grpc

from perigee.v1 import decode_pb2_grpc, pages_pb2_grpc, worker_pb2
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.name_resolver import NameResolver
from services.common.rpc.pool_address import parse_pool
from services.common.telemetry.opened_tracer import opened_tracer
from services.common.telemetry.tracer import Tracer
from services.common.telemetry.worker_metrics import TextWorkerMetrics
from services.decode.config import DecodeConfig
from services.decode.constraint.maker import ConstraintMaker
from services.decode.constraint.mask_threads import MaskThreads
from services.decode.engine import DecodeEngine
from services.decode.engine_io import DecodeIO
from services.decode.limits import DecodeLimits
from services.decode.page_server import PageServicer
from services.decode.request_measures import STAGES
from services.decode.server import DecodeServicer
from services.decode.token_stepper import SingleTokenStepper
from services.engine.kv_cache.page_manager import PageManager
from services.engine.loading.hardware import compute_on, parse_device
from services.engine.peers.pool_members import PoolMembers
from services.engine.sampling.sampler import Sampler
from services.engine.serving.loop import EngineLoop
from services.engine.serving.text_backend import TextWorkerBackend
from services.engine.serving.text_server import Counters, check_chunk_tokens, serve_text_worker
from services.engine.serving.text_worker import build_text_worker, draw_on
from services.engine.serving.worker_server import failure_future, tune_process
from services.engine.serving.worker_service import WorkerServicer
from services.families.registry import FAMILIES


async def serve(config: DecodeConfig, endpoints: Endpoints, stop: asyncio.Event) -> None:
    """Runs a decode worker until `stop` is set, then drains it."""
    with opened_tracer(endpoints.role, os.environ) as tracer:
        await _serve(config, endpoints, stop, tracer)


async def _serve(
    config: DecodeConfig, endpoints: Endpoints, stop: asyncio.Event, tracer: Tracer | None
) -> None:
    chunk_tokens = config.chunk_on(parse_device(config.device).type)
    check_chunk_tokens(chunk_tokens)
    tune_process(config.threads)
    entries = parse_pool(config.prefill_pool)
    prefill = PoolMembers(entries, NameResolver(max(1, len(entries))).addresses)
    worker = await build_text_worker(
        config, endpoints, worker_pb2.WORKER_ROLE_DECODE, pools={"prefill": prefill}
    )
    failure, fail = failure_future()
    context_length = worker.info.model.context_length
    limits = DecodeLimits(
        config.max_running,
        config.max_waiting,
        chunk_tokens,
        config.local_prefill_tokens,
        config.headroom_pages,
        context_length,
        config.lease_seconds,
    )
    family = FAMILIES.find(worker.config.model_type, config.model)
    read_tokens = partial(family.read_grammar_tokens, Path(config.model))
    masks = MaskThreads()
    io = DecodeIO(worker, config.prefill_silence_seconds)
    device = worker.kv_pages.device
    sampler = Sampler(worker.vocab_size, draw_on(device))
    stepper = SingleTokenStepper(worker.runner, sampler, masks, overlaps=device.type != "cpu")
    page_manager = PageManager(worker.kv_pages.shape[0], worker.runner)
    metrics = TextWorkerMetrics(STAGES)
    engine = DecodeEngine(
        stepper, page_manager, masks, limits, io, worker.transfer.set_serving, metrics=metrics, tracer=tracer
    )
    constraints = ConstraintMaker(read_tokens, worker.vocab_size, lambda: engine.competition.goes_on)
    loop = EngineLoop("decode-engine", engine.step, fail, watch=worker.watch)
    loop.post(partial(compute_on, device))
    io.connect(engine, loop)
    backend = TextWorkerBackend(worker, engine, engine.lending, loop)
    worker_servicer = WorkerServicer(backend)
    servicer = DecodeServicer(
        engine,
        loop,
        constraints,
        worker.vocab_size,
        context_length,
        config.request_timeout_seconds,
        tracer=tracer,
    )

    pages = PageServicer(engine.lending, loop, worker_servicer.readers.authenticate)

    def add_service(server: grpc.aio.Server) -> None:
        decode_pb2_grpc.add_DecodeServiceServicer_to_server(servicer, server)

    def add_pages(server: grpc.aio.Server) -> None:
        pages_pb2_grpc.add_PageServiceServicer_to_server(pages, server)

    await serve_text_worker(
        config,
        endpoints,
        backend,
        worker_servicer,
        [("perigee.v1.DecodeService", add_service), ("perigee.v1.PageService", add_pages)],
        _counters(engine),
        metrics,
        stop,
        failure,
    )
    constraints.close()
    masks.close()


def _counters(engine: DecodeEngine) -> Counters:
    return {
        "perigee_kv_transfer_bytes": ("Bytes of KV read from peers", lambda: engine.load.transfer_bytes),
        "perigee_preemptions": (
            "Sequences that gave up their pages and were recomputed later",
            lambda: engine.load.preemptions,
        ),
    }
