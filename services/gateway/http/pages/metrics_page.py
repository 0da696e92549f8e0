"""GET /metrics: the gateway's own numbers and its workers', theirs labelled worker="host:port".

Of several processes that serve one port, each one's numbers are labelled process="0", "1", ...
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from perigee.v1 import worker_pb2
from services.gateway.http.pages.fetch import fetch_text
from services.gateway.http.pages.process_metrics import ProcessMetrics
from services.gateway.metrics import GatewayMetrics
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import WorkerPool

_TIMEOUT_S = 1.0


class MetricsPage:
    """Gathers all pages at once, each within a second; one that cannot be read is left out and counted."""

    def __init__(
        self, metrics: GatewayMetrics, pool: WorkerPool, process_metrics: ProcessMetrics | None = None
    ) -> None:
        self._metrics = metrics
        self._pool = pool
        self._processes = process_metrics
        self._unreachable: set[str] = set()

    async def show(self, request: Request) -> Response:
        workers = await asyncio.gather(*(self._families(link) for link in self._pool.links))
        self._forget_left()
        page = generate_latest(_merged(chain(await self._own(), *workers)))
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    async def _own(self) -> list[Metric]:
        """The metrics of this process and of the other gateway processes."""
        own = list(self._metrics.registry.collect())
        if self._processes is None:
            return own
        found = [_labelled(family, "process", self._processes.name) for family in own]
        for name, page in (await self._processes.pages()).items():
            found += [_labelled(family, "process", name) for family in text_string_to_metric_families(page)]
        return found

    async def _families(self, link: WorkerLink) -> list[Metric]:
        if link.info is None:
            return self._missing(link.address)
        if not link.info.metrics_port:
            return []
        host = link.address.rpartition(":")[0].strip("[]")
        try:
            page = await fetch_text(host, link.info.metrics_port, "/metrics", _TIMEOUT_S)
            return [
                _labelled(family, "worker", link.address) for family in text_string_to_metric_families(page)
            ]
        except (OSError, ValueError, TimeoutError):
            return self._missing(link.address)

    def _missing(self, address: str) -> list[Metric]:
        self._metrics.unreachable_pages.labels(address).inc()
        self._unreachable.add(address)
        return []

    def _forget_left(self) -> None:
        """Ends the series of workers that are not known any more: addresses come and go without end."""
        for address in self._unreachable - {link.address for link in self._pool.links}:
            self._metrics.unreachable_pages.remove(address)
            self._unreachable.remove(address)


class WorkerCounts(Collector):
    """How many workers there are, counted when somebody asks."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        """prometheus_client's."""
        counts = Counter(
            (worker_pb2.WorkerRole.Name(link.role).removeprefix("WORKER_ROLE_").lower(), link.state)
            for link in self._pool.links
        )
        text = "Workers known, by role and state (serving, paused, draining, leaving, unreachable)"
        family = GaugeMetricFamily("perigee_workers", text, labels=("role", "state"))
        for labels, count in counts.items():
            family.add_metric(labels, count)
        yield family


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


def _labelled(family: Metric, label: str, value: str) -> Metric:
    labelled = Metric(family.name, family.documentation, family.type)
    labelled.samples = [sample._replace(labels={**sample.labels, label: value}) for sample in family.samples]
    return labelled
