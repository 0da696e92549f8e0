"""A text worker behind WorkerService."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from perigee.v1 import worker_pb2
from services.common.errors import ConfigError
from services.engine.kv_cache.page_pool import PageCounts
from services.engine.kv_transfer.transport_report import PathReport, TransportReport
from services.engine.loop import EngineLoop
from services.engine.text_host import TextHost
from services.engine.text_server import check_chunk_tokens


class StrawEngine:
    """A load that never changes."""

    load = SimpleNamespace(
        running=2, waiting=3, pages=PageCounts(1, 2, 3, 4, 5), queued_tokens=6, integrity_failures=0
    )

    def flush(self) -> int:
        return 6

    def drain(self) -> int:
        return 7


async def test_the_engines_load_is_reported_and_draining_shows_in_it():
    worker = SimpleNamespace(info=worker_pb2.WorkerInfo(incarnation="decode-1"), offer="offer")
    engine = StrawEngine()
    loop = EngineLoop("test", lambda: False, lambda error: None)
    host = TextHost(cast(Any, worker), cast(Any, engine), loop)
    loop.start()
    report = host.load()
    assert (report.running, report.waiting, report.queued_tokens, report.draining) == (2, 3, 6, False)
    assert report.pages == worker_pb2.PageCounts(free=1, used=2, cached=3, leased=4, quarantined=5)
    assert (await host.flush()).pages == 6
    assert (await host.drain()).outstanding == 7
    assert host.load().draining
    assert (host.info().incarnation, host.offer()) == ("decode-1", "offer")
    loop.stop()


@pytest.mark.parametrize("chunk_tokens", [-64, 0, 1, 63, 100])
def test_a_chunk_that_is_not_whole_pages_is_refused_by_name(chunk_tokens):
    with pytest.raises(ConfigError, match="chunk_tokens"):
        check_chunk_tokens(chunk_tokens)
    check_chunk_tokens(64)


async def test_a_transfer_check_is_told_as_the_wire_has_it():
    report = PathReport(TransportReport("cma", 9.5, False), 128, 0xABCD, 0.25)

    async def check(address, rounds):
        assert (address, rounds) == ("owner:1", 3)
        return SimpleNamespace(offer=SimpleNamespace(incarnation="prefill-1")), report

    worker = SimpleNamespace(peers=SimpleNamespace(check=check))
    host = TextHost(cast(Any, worker), cast(Any, StrawEngine()), cast(Any, None))
    assert await host.check_transfer("owner:1", 3) == worker_pb2.CheckTransferResponse(
        incarnation="prefill-1",
        transport=worker_pb2.TransportReport(transport="cma", gigabytes_per_second=9.5),
        bytes=128,
        crc32=0xABCD,
        seconds=0.25,
    )
