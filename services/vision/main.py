"""Builds and serves a vision worker."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog
import torch

from perigee.v1 import vision_pb2_grpc, worker_pb2
from services.common.errors import CheckpointError, PerigeeError
from services.common.ids import incarnation
from services.common.media.video_file import VideoLimits
from services.common.metrics import new_registry
from services.common.rpc.endpoints import Endpoints
from services.common.telemetry.opened_tracer import opened_tracer
from services.common.telemetry.tracer import Tracer
from services.common.telemetry.worker_metrics import WorkerMetrics
from services.engine.kv_transfer.agents.offer_proto import offer_to_proto, report_to_proto
from services.engine.kv_transfer.agents.transport_report import TransportReport
from services.engine.kv_transfer.opening import TransferOpening
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.leases.embedding_reader import row_page_bytes
from services.engine.loading.gpu_memory import usable_bytes
from services.engine.loading.hardware import parse_device, parse_dtype
from services.engine.loading.memory_plan import physical_bytes
from services.engine.loading.page_memory import check_pages
from services.engine.loading.vision import load_vision_model
from services.engine.model.architectures import load_config
from services.engine.serving.identity import model_identity
from services.engine.serving.load_metrics import LoadMetrics
from services.engine.serving.process_exit import GONE_S, exit_within
from services.engine.serving.worker_server import (
    ShutdownTriggers,
    failure_future,
    serve_metrics,
    serve_worker,
    tune_process,
)
from services.engine.serving.worker_service import WorkerServicer
from services.families.media import MediaArithmetic
from services.families.registry import family_in
from services.vision.backend import VisionWorkerBackend
from services.vision.backlog import Backlog
from services.vision.config import VisionConfig
from services.vision.embedding_lessor import EmbeddingLessor
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows
from services.vision.encoder import STAGES, ImageEncoder
from services.vision.model_thread import ModelThread
from services.vision.server import VisionServicer

log = structlog.get_logger()

_TICK_S = 0.05
_BATCH = {"cpu": 1, "cuda": 8}
"""Images that are encoded together by default. More would not make a CPU faster, only each image late."""


@dataclass(frozen=True)
class VisionWorker:
    """The parts of a worker, ready to serve. `info` is complete except for the metrics port."""

    info: worker_pb2.WorkerInfo
    transfer: TransferThread
    model: ModelThread
    arithmetic: MediaArithmetic
    encoder: ImageEncoder
    metrics: WorkerMetrics
    lessor: EmbeddingLessor
    backend: VisionWorkerBackend

    async def close(self) -> None:
        """Stops the model thread, which writes to the pool, then the transfer thread, which serves it."""
        self.encoder.close()
        await asyncio.to_thread(self.model.close)
        await asyncio.to_thread(self.transfer.close)


async def build_vision_worker(
    config: VisionConfig, on_fatal: Callable[[BaseException], None]
) -> VisionWorker:
    """Loads the model, allocates and registers the pool, and tests the transport. `on_fatal`: as in
    ModelThread.

    Raises CheckpointError, ConfigError, TransferFailed.
    """
    directory = Path(config.model)
    log.info("loading", model=str(directory))
    arithmetic = _arithmetic(directory)
    device = parse_device(config.device)
    batch = config.max_batch or _BATCH[device.type]
    dtype = parse_dtype(config.dtype, device)
    _check_pool(config.embedding_pages, directory, device)
    model = await asyncio.to_thread(load_vision_model, directory, dtype, device)
    rows = allocate_embedding_rows(config.embedding_pages, model.config.text_hidden_size, device)
    pool = EmbeddingPool(rows, config.hold_seconds, config.lease_seconds)
    name = incarnation("vision")
    transfer = TransferOpening(name, {}, config.expected_transport)([pool.region()])
    report = await asyncio.to_thread(transfer.start)

    thread = ModelThread(model, rows, batch, on_fatal)
    metrics = WorkerMetrics(STAGES)
    encoder = ImageEncoder(
        pool,
        thread,
        arithmetic,
        config.max_image_pixels,
        VideoLimits(config.max_video_pixels, config.max_video_frames, config.max_video_seconds),
        Backlog(config.max_waiting, config.max_waiting_patches),
        config.preprocess_threads,
        batch,
        metrics,
    )
    lessor = EmbeddingLessor(pool, transfer.set_serving)
    info = worker_info(name, directory, report, deterministic=batch == 1)
    backend = VisionWorkerBackend(info, offer_to_proto(transfer.offer()), pool, lessor, encoder)
    return VisionWorker(info, transfer, thread, arithmetic, encoder, metrics, lessor, backend)


def _check_pool(pages: int, directory: Path, device: torch.device) -> None:
    """Raises ConfigError if so many pages do not fit where the embeddings live."""
    page_bytes = row_page_bytes(load_config(directory).text.hidden_size)
    if device.type == "cpu":
        check_pages("embedding_pages", pages, page_bytes, physical_bytes())
    else:
        check_pages("embedding_pages", pages, page_bytes, usable_bytes(device, 1), "the GPU's memory")


def _arithmetic(directory: Path) -> MediaArithmetic:
    arithmetic = family_in(directory).media
    if arithmetic is None:
        raise CheckpointError(f"{directory} is a model of text alone: no vision worker serves it")
    return arithmetic


def worker_info(
    name: str, directory: Path, report: TransportReport, *, deterministic: bool
) -> worker_pb2.WorkerInfo:
    """Returns the worker's identity. `deterministic`: each medium is computed alone, in an order that depends
    only on its grid.
    """
    config = load_config(directory)
    return worker_pb2.WorkerInfo(
        role=worker_pb2.WORKER_ROLE_VISION,
        incarnation=name,
        version=importlib.metadata.version("perigee"),
        model=model_identity(directory, config, config.text.max_position_embeddings),
        transport=report_to_proto(report),
        deterministic=deterministic,
        pid=os.getpid(),
    )


async def serve(config: VisionConfig, endpoints: Endpoints, stop: asyncio.Event) -> None:
    """Runs a vision worker until `stop` is set, then drains it. If the worker failed, its threads may hang:
    the process ends in 10 s all the same.

    Raises CheckpointError, ConfigError, TransferFailed at start; Unavailable when it must be restarted.
    """
    with opened_tracer(endpoints.role, os.environ) as tracer:
        await _serve(config, endpoints, stop, tracer)


async def _serve(
    config: VisionConfig, endpoints: Endpoints, stop: asyncio.Event, tracer: Tracer | None
) -> None:
    tune_process(config.threads)
    failure, fail = failure_future()
    worker = await build_vision_worker(config, fail)
    worker_servicer = WorkerServicer(worker.backend)
    servicer = VisionServicer(
        worker.encoder,
        worker.arithmetic,
        worker.lessor,
        worker_servicer.readers.authenticate,
        worker.info.incarnation,
        round(1000 * config.hold_seconds),
        tracer,
    )

    def add_vision_service(server: grpc.aio.Server) -> None:
        vision_pb2_grpc.add_VisionServiceServicer_to_server(servicer, server)

    services = [("perigee.v1.VisionService", add_vision_service)]
    max_quarantined = config.max_quarantined_pages or max(1, config.embedding_pages // 2)
    triggers = ShutdownTriggers(failure, max_quarantined, worker.transfer.is_alive)
    ticking = asyncio.create_task(tick(worker.backend))

    def ticking_ended(task: asyncio.Task[None]) -> None:
        # Only a bug ends this task before it is cancelled, and without ticks no lease would expire.
        if not task.cancelled() and (error := task.exception()) is not None:
            fail(error)

    ticking.add_done_callback(ticking_ended)
    try:
        registry = new_registry(endpoints.role)
        LoadMetrics(registry, lambda: worker.backend.last_load, counters(worker))
        registry.register(worker.metrics)
        worker.info.metrics_port = serve_metrics(registry, endpoints, config.host, config.metrics_port)
        await serve_worker(
            config, endpoints, worker.backend, worker_servicer, services, stop, triggers, config.lease_seconds
        )
    except PerigeeError:
        exit_within(GONE_S)
        raise
    finally:
        ticking.cancel()
        await worker.close()


async def tick(backend: VisionWorkerBackend) -> None:
    """Calls `backend.tick()` every 50 ms until cancelled."""
    while True:
        backend.tick()
        await asyncio.sleep(_TICK_S)


def counters(worker: VisionWorker) -> Mapping[str, tuple[str, Callable[[], int]]]:
    """Returns help text and value of each counter, by metric name."""
    return {
        "perigee_kv_transfer_bytes": ("Bytes read from peers; a vision worker reads none", lambda: 0),
        "perigee_vision_cache_hits": (
            "Encode answers that needed no model run of their own",
            lambda: worker.encoder.counts.hits,
        ),
        "perigee_vision_cache_misses": (
            "Encode requests whose image or complete video was not in the pool",
            lambda: worker.encoder.counts.misses,
        ),
        "perigee_integrity_failures": (
            "Integrity checks of the embedding pool that failed",
            lambda: worker.backend.integrity_failures,
        ),
    }
