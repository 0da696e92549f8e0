"""GET /metrics: the gateway's own numbers and its workers', theirs labelled worker="host:port"."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import chain

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from perigee.v1 import worker_pb2
from services.gateway.http.fetch import fetch_text
from services.gateway.metrics import GatewayMetrics
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import WorkerPool

_TIMEOUT_S = 1.0


class MetricsPage:
    """Gathers all pages at once, each within a second; one that cannot be read is left out and counted."""

    def __init__(self, metrics: GatewayMetrics, pool: WorkerPool) -> None:
        self._metrics = metrics
        self._pool = pool

    async def show(self, request: Request) -> Response:
        self._count_workers()
        workers = await asyncio.gather(*(self._families(link) for link in self._pool.links))
        page = generate_latest(_merged(chain(self._metrics.registry.collect(), *workers)))
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    def _count_workers(self) -> None:
        self._metrics.workers.clear()
        for link in self._pool.links:
            role = worker_pb2.WorkerRole.Name(link.role).removeprefix("WORKER_ROLE_").lower()
            self._metrics.workers.labels(role, link.state).inc()

    async def _families(self, link: WorkerLink) -> list[Metric]:
        if link.info is None:
            self._metrics.unreachable_pages.labels(link.address).inc()
            return []
        if not link.info.metrics_port:
            return []
        host = link.address.rpartition(":")[0].strip("[]")
        try:
            page = await fetch_text(host, link.info.metrics_port, "/metrics", _TIMEOUT_S)
            return [_labelled(family, link.address) for family in text_string_to_metric_families(page)]
        except (OSError, ValueError, TimeoutError):
            self._metrics.unreachable_pages.labels(link.address).inc()
            return []


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _merged(families: Iterable[Metric]) -> CollectorRegistry:
    """One family per name, so that the page declares each once."""
    by_name: dict[str, Metric] = {}
    for family in families:
        merged = by_name.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        merged.samples.extend(family.samples)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(by_name.values()))
    return registry


def _labelled(family: Metric, worker: str) -> Metric:
    labelled = Metric(family.name, family.documentation, family.type)
    labelled.samples = [
        sample._replace(labels={**sample.labels, "worker": worker}) for sample in family.samples
    ]
    return labelled
