"""A text worker behind WorkerService."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from perigee.v1 import worker_pb2
from services.common.errors import ConfigError
from services.engine.kv_cache.page_pool import PageCounts
from services.engine.kv_transfer.agents.transport_report import PathReport, TransportReport
from services.engine.serving.loop import EngineLoop
from services.engine.serving.text_backend import TextWorkerBackend
from services.engine.serving.text_server import check_chunk_tokens


class StrawEngine:
    """A load that never changes."""

    load = SimpleNamespace(
        running=2, waiting=3, pages=PageCounts(1, 2, 3, 4, 5), queued_tokens=6, integrity_failures=0
    )

    def flush(self) -> int:
        return 6

    draining = False

    def drain(self) -> int:
        self.draining = True
        return 7

    def undrain(self) -> None:
        self.draining = False


class StrawReaders:
    """Remembers what it heard, and on which thread."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def settled(self, reader: str, lease_keys: list[int]) -> None:
        self._hear("settled", reader, lease_keys)

    def reader_joined(self, reader: str) -> None:
        self._hear("joined", reader)

    def reader_gone(self, reader: str) -> None:
        self._hear("gone", reader)

    def _hear(self, *words: object) -> None:
        self.heard.append((threading.current_thread().name, *words))


@pytest.fixture
def readers() -> StrawReaders:
    return StrawReaders()


@pytest.fixture
def backend(readers):
    worker = SimpleNamespace(info=worker_pb2.WorkerInfo(incarnation="decode-1"), offer="offer")
    loop = EngineLoop("test-engine", lambda: False, lambda error: None)
    loop.start()
    yield TextWorkerBackend(cast(Any, worker), cast(Any, StrawEngine()), readers, loop)
    loop.stop()


async def test_the_engines_load_is_reported_and_draining_shows_in_it(backend):
    report = backend.load()
    assert (report.running, report.waiting, report.queued_tokens, report.draining) == (2, 3, 6, False)
    assert report.pages == worker_pb2.PageCounts(free=1, used=2, cached=3, leased=4, quarantined=5)
    assert (await backend.flush()).pages == 6
    assert (await backend.drain()).outstanding == 7
    assert backend.load().draining
    assert backend.engine.draining
    await backend.undrain()
    assert not backend.load().draining
    assert not backend.engine.draining
    assert (backend.info().incarnation, backend.offer()) == ("decode-1", "offer")


async def test_news_of_readers_reach_who_lends_them_pages_in_order_on_the_engine_thread(backend, readers):
    backend.reader_joined("prefill-1")
    backend.leases_settled("prefill-1", [3, 4])
    backend.reader_gone("prefill-1")
    await backend.flush()
    assert readers.heard == [
        ("test-engine", "joined", "prefill-1"),
        ("test-engine", "settled", "prefill-1", [3, 4]),
        ("test-engine", "gone", "prefill-1"),
    ]


@pytest.mark.parametrize("chunk_tokens", [-64, 0, 1, 63, 100])
def test_a_chunk_that_is_not_whole_pages_is_refused_by_name(chunk_tokens):
    with pytest.raises(ConfigError, match="chunk_tokens"):
        check_chunk_tokens(chunk_tokens)
    check_chunk_tokens(64)


async def test_a_transfer_check_is_told_as_the_wire_has_it():
    report = PathReport(TransportReport("cma", 9.5, False), 128, 0xABCD, 0.25)

    async def check(address, role, rounds):
        assert (address, role, rounds) == ("owner:1", "decode", 3)
        return SimpleNamespace(offer=SimpleNamespace(incarnation="prefill-1")), report

    worker = SimpleNamespace(peers=SimpleNamespace(check=check))
    backend = TextWorkerBackend(cast(Any, worker), cast(Any, StrawEngine()), StrawReaders(), cast(Any, None))
    assert await backend.check_transfer("owner:1", "decode", 3) == worker_pb2.CheckTransferResponse(
        incarnation="prefill-1",
        transport=worker_pb2.TransportReport(transport="cma", gigabytes_per_second=9.5),
        bytes=128,
        crc32=0xABCD,
        seconds=0.25,
    )
