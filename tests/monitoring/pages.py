"""A gateway's page with everything that there can be on it: each label with each of its values."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from perigee.v1 import sampling_pb2, worker_pb2
from services.common.errors import PerigeeError
from services.common.metrics import new_registry
from services.common.telemetry.timeline import Timeline
from services.common.telemetry.worker_metrics import TextWorkerMetrics, WorkerMetrics
from services.decode import main as decode
from services.decode import request_measures
from services.engine.serving.load_metrics import LoadMetrics
from services.gateway.admission import Admission
from services.gateway.http.pages.metrics_page import WorkerCounts, _labelled, _merged
from services.gateway.metrics import GatewayMetrics
from services.gateway.request_record import STAGES
from services.gateway.workers.stream.token_delta import PromptStats
from services.prefill import job_measures
from services.prefill import main as prefill
from services.vision import encoder
from services.vision import main as vision

ROLES = (worker_pb2.WORKER_ROLE_VISION, worker_pb2.WORKER_ROLE_PREFILL, worker_pb2.WORKER_ROLE_DECODE)
STATES = ("serving", "paused", "draining", "leaving", "unreachable")
FINISHES = (sampling_pb2.FINISH_REASON_STOP, sampling_pb2.FINISH_REASON_LENGTH)


def whole_page() -> str:
    """The page, made by the classes that the services make theirs with."""
    families = [_labelled(family, "process", "0") for family in asyncio.run(gateway()).collect()]
    for name, registry in workers().items():
        families += [_labelled(family, "worker", f"{name}:1") for family in registry.collect()]
    return generate_latest(_merged(families)).decode()


async def gateway() -> CollectorRegistry:
    """The metrics of a gateway to which everything has happened."""
    registry = new_registry("gateway")
    metrics = GatewayMetrics(registry)
    links = [SimpleNamespace(role=role, state=state) for role in ROLES for state in STATES]
    registry.register(WorkerCounts(SimpleNamespace(links=links)))
    metrics.stages.observe(timeline(STAGES))
    metrics.duration.observe(1.0)
    metrics.unreachable_pages.labels("decode:1").inc()
    metrics.key_requests.inc("team", "ok")
    metrics.key_tokens.inc("team", "prompt")
    admission = Admission(1, metrics)
    for door in ("rest", "grpc"):
        for error in errors():
            admission.refused(door, error)
        with suppress(ZeroDivisionError), admission.failing(door):
            raise ZeroDivisionError
        with admission.enter(door) as ticket:
            ticket.tokens(0, ticket.started + 1.0)
            ticket.tokens(0, ticket.started + 2.0)
            ticket.answered(PromptStats("", 1, 1, {}), 3, 0.0, 0.0, 0.0)
            ticket.failed_over()
            ticket.left_unanswered(FINISHES)
            ticket.refused_call()
            ticket.dropped_call("no_tool")
    return registry


def workers() -> Mapping[str, CollectorRegistry]:
    """The metrics of a worker of each role to which everything has happened."""
    load = SimpleNamespace(transfer_bytes=0, preemptions=0, computed_tokens=0)
    engine: Any = SimpleNamespace(load=load)
    counts = SimpleNamespace(hits=0, misses=0)
    encoding: Any = SimpleNamespace(
        encoder=SimpleNamespace(counts=counts), backend=SimpleNamespace(integrity_failures=0)
    )
    stages = {"prefill": job_measures.STAGES, "decode": request_measures.STAGES, "vision": encoder.STAGES}
    text = {"prefill": prefill._counters(engine), "decode": decode._counters(engine)}
    registries = {}
    for role, counters in {**text, "vision": vision.counters(encoding)}.items():
        registries[role] = registry = new_registry(role)
        LoadMetrics(registry, lambda: worker_pb2.LoadReport(pages=worker_pb2.PageCounts(free=1)), counters)
        if role in text:
            metrics: WorkerMetrics = TextWorkerMetrics(stages[role])
            metrics.step(0.1, 1, 1)
            metrics.transfers.note("peer:1", 1, 0.1, 0.1, failed=True)
        else:
            metrics = WorkerMetrics(stages[role])
        metrics.stages.observe(timeline(stages[role]))
        metrics.errors.inc("OVERLOADED")
        registry.register(metrics)
    return registries


def timeline(stages: Iterable[str]) -> Timeline:
    """A request that had each of these stages."""
    times = Timeline()
    for stage in stages:
        times.add(stage, 0.0, 1.0)
    return times


def errors() -> list[PerigeeError]:
    """An error of each class."""
    classes, found = [PerigeeError], []
    while classes:
        cls = classes.pop()
        classes += cls.__subclasses__()
        found.append(cls.__new__(cls))
    return found
