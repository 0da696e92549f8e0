"""A prefill engine on the test's own thread, over a model without weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

from perigee.v1 import prefill_pb2
from services.common.telemetry.tracer import Trace, Tracer
from services.common.telemetry.worker_metrics import TextWorkerMetrics
from services.engine.kv_cache.kv_pages import page_crc32
from services.engine.leases.source_order import SourceOrder
from services.engine.media import Medium
from services.engine.runner import ModelRunner
from services.engine.sampling.scores import Scoring
from services.prefill.engine import PrefillEngine
from services.prefill.events import Admitted, Event, Ready, Refused
from services.prefill.job import Job
from services.prefill.job_measures import STAGES
from services.prefill.limits import PrefillLimits
from services.prefill.source import SourceResult
from tests.support.fake_runner import NUM_LAYERS, FakeRunner, fake_pages, read_context, write_context
from tests.support.manual_clock import ManualClock

E = TypeVar("E")


def order_start(job: Job, order: SourceOrder) -> int:
    """The index in the prompt of the page at which an order begins."""
    return job.hashes.index(order.hashes[0])


@dataclass
class Reader:
    """One prompt's reader: the events it received, and the pages it could read by then."""

    bench: PrefillBench
    events: list[Event] = field(default_factory=list)
    ready: dict[int, set[int]] = field(default_factory=dict)
    job: Job = field(init=False)

    def take(self, event: Event) -> None:
        """Checks that announced pages are written at the moment of their announcement."""
        self.events.append(event)
        if isinstance(event, Ready):
            pages = self.all(Admitted)[0].pages
            for index in range(event.first_page, event.first_page + event.page_count):
                page = pages[index - self.job.reader_cached_pages]
                for layer in range(event.first_layer, event.end_layer):
                    assert layer not in self.ready.setdefault(index, set()), "announced twice"
                    self.ready[index].add(layer)
                    count = min(64, self.job.num_tokens - index * 64)
                    entries = self.bench.kv_pages[page, layer, :count]
                    assert (entries[:, 1] + 0).tolist() == list(range(index * 64, index * 64 + count))
                    assert (entries[:, 3] == layer).all()
            for index, crc in enumerate(event.crc32):
                page = pages[event.first_page + index - self.job.reader_cached_pages]
                assert crc == page_crc32(self.bench.kv_pages, page, event.first_layer, event.end_layer)

    def all(self, kind: type[E]) -> list[E]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def kinds(self) -> list[str]:
        """Names of the received events, in order."""
        return [type(event).__name__ for event in self.events]

    def refusal(self) -> str | None:
        """The reason of the refusal, or None; it must come only once."""
        refusals = self.all(Refused)
        assert len(refusals) <= 1
        if not refusals:
            return None
        return prefill_pb2.PrefillRefusal.Name(refusals[0].reason).removeprefix("PREFILL_REFUSAL_")

    def context(self) -> list[float]:
        """The context in the leased pages; asserts that all of it was announced."""
        indices = range(self.job.reader_cached_pages, self.job.num_pages)
        assert self.ready == {index: set(range(NUM_LAYERS)) for index in indices}
        return read_context(self.bench.kv_pages, self.all(Admitted)[0].pages, self.job.num_tokens)


class StrawSource:
    """Records the engine's calls; tests answer them."""

    def __init__(self) -> None:
        self.orders: list[tuple[Job, SourceOrder]] = []
        self.stopped: list[Job] = []

    def start(self, job: Job, order: SourceOrder) -> None:
        self.orders.append((job, order))

    def stop(self, job: Job) -> None:
        self.stopped.append(job)


class PrefillBench:
    """The engine, and its reports of serving."""

    def __init__(
        self, num_pages: int, *, chunk_tokens: int = 128, max_waiting: int = 16, lease_s: float = 60.0,
        checksums: float = 1.0, make_runner: Callable[[Tensor], ModelRunner] | None = None,
        tracer: Tracer | None = None,
    ) -> None:  # fmt: skip
        """`make_runner`: makes another runner over the pages."""
        self.clock = ManualClock()
        self.kv_pages = fake_pages(num_pages)
        self.runner = (make_runner or FakeRunner)(self.kv_pages)
        self.serving: list[bool] = []
        limits = PrefillLimits(chunk_tokens, max_waiting, lease_s, checksums)
        self.source = StrawSource()
        self.metrics = TextWorkerMetrics(STAGES)
        self.engine = PrefillEngine(
            self.runner,
            self.kv_pages,
            limits,
            self.serving.append,
            self.source,
            metrics=self.metrics,
            tracer=tracer,
            clock=self.clock,
        )
        self.keys = 0

    def submit(
        self, tokens: Sequence[int], *, reader: str = "decode-a", cached_pages: int = 0, key: int = 0,
        media: Sequence[Medium] = (), source: str = "", priority: int = 0, scoring: Scoring | None = None,
        next_token: int = 0,
        tenant: int = 0, weight: int = 1, trace: Trace | None = None,
    ) -> Reader:  # fmt: skip
        """Submits a job; returns its reader."""
        self.keys += 1
        news = Reader(self)
        news.job = Job(
            request_id=f"test-{self.keys}",
            reader=reader,
            lease_key=key or self.keys,
            token_ids=list(tokens),
            media=tuple(media),
            cache_salt="",
            reader_cached_pages=cached_pages,
            source_address=source,
            emit=news.take,
            priority=priority,
            scoring=scoring,
            next_token_id=next_token,
            tenant=tenant,
            weight=weight,
            trace=trace,
        )
        self.engine.submit(news.job)
        return news

    def end_read(self, arrived: int, at_risk: int = 0, number: int = -1) -> tuple[int, ...]:
        """Ends the read of an order: `arrived` pages hold their KV, the next `at_risk` are still at risk.

        Returns the pages at risk.
        """
        job, order = self.source.orders[number]
        first = order_start(job, order)
        end = (first + arrived) * 64
        write_context(self.kv_pages, order.pages[:arrived], job.token_ids[:end], first)
        open_pages = order.pages[arrived : arrived + at_risk]
        self.engine.source_ended(job, SourceResult(arrived, open_pages, bytes_read=100 * arrived))
        return open_pages

    def run(self, steps: int = 1000) -> None:
        """Steps until the engine is idle."""
        for _ in range(steps):
            if not self.engine.step():
                return
        raise AssertionError("the engine does not come to rest")

    def check_free(self) -> None:
        """Checks that nobody holds a page and that the pool's counts are consistent."""
        self.engine.step()
        counts = self.engine.load.pages
        assert (counts.used, counts.leased, counts.quarantined) == (0, 0, 0), counts
        self.engine._pages.pool.check_integrity()
        assert (self.engine.load.running, self.engine.load.waiting) == (0, 0)
        assert self.engine.load.integrity_failures == 0
        assert not self.serving or not self.serving[-1]
