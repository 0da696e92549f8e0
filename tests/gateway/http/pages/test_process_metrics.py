"""Gateway processes that tell each other their numbers."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from services.gateway.http.pages.process_metrics import ProcessMetrics
from tests.support.endpoints import ENDPOINTS


@pytest.fixture
def registry():
    registry = CollectorRegistry()
    counter = Counter("perigee_requests", "Ended", ["outcome"], registry=registry)
    for index in range(50):
        counter.labels(f"outcome-{index}").inc(index)
    return registry


@pytest.fixture
async def other(tmp_path, registry):
    process_metrics = ProcessMetrics(tmp_path / "1", registry, ENDPOINTS)
    await process_metrics.start()
    yield process_metrics
    await process_metrics.stop()


@pytest.fixture
def mine(tmp_path, other):
    return ProcessMetrics(tmp_path / "0", CollectorRegistry(), ENDPOINTS)


async def read(path):
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_the_page_of_another_process_comes_by_its_number(mine):
    pages = await mine.pages()
    assert list(pages) == ["1"]
    [family, *_] = text_string_to_metric_families(pages["1"])
    assert len([sample for sample in family.samples if sample.name.endswith("_total")]) == 50


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
async def test_a_page_that_ends_before_its_end_is_left_out(mine, tmp_path, share):
    whole = await read(tmp_path / "1")
    lines = whole.splitlines(keepends=True)
    cuts = [int(len(whole) * share), len(b"".join(lines[: int(len(lines) * share)]))]
    for cut in cuts:

        async def die(reader, writer, cut=cut):
            writer.write(whole[:cut])
            await writer.drain()
            writer.close()

        (tmp_path / "2").unlink(missing_ok=True)
        server = await asyncio.start_unix_server(die, tmp_path / "2")
        pages = await mine.pages()
        server.close()
        assert list(pages) == (["1", "2"] if cut == len(whole) else ["1"])
