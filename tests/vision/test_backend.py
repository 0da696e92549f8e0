"""The vision worker behind WorkerService."""

from __future__ import annotations

import pytest

from perigee.v1 import worker_pb2
from services.common.errors import UnsupportedOperation
from services.common.media.video_file import VideoLimits
from services.families.kimi.family import MEDIA
from services.vision.backend import VisionWorkerBackend
from services.vision.backlog import Backlog
from services.vision.embedding_lessor import EmbeddingLessor
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows
from services.vision.encoder import ImageEncoder
from services.vision.model_thread import ModelThread

VIDEO_LIMITS = VideoLimits(1_000_000, 1_000, 60.0)


@pytest.fixture
def pool() -> EmbeddingPool:
    return EmbeddingPool(allocate_embedding_rows(4, 24), hold_s=60.0, lease_s=60.0)


@pytest.fixture
def backend(pool, model) -> VisionWorkerBackend:
    thread = ModelThread(model, allocate_embedding_rows(4, 24))
    encoder = ImageEncoder(
        pool,
        thread,
        MEDIA,
        max_pixels=1_000_000,
        video_limits=VIDEO_LIMITS,
        backlog=Backlog(2, 100_000),
        threads=1,
    )
    lessor = EmbeddingLessor(pool, lambda _: None)
    return VisionWorkerBackend(worker_pb2.WorkerInfo(), worker_pb2.MemoryOffer(), pool, lessor, encoder)


def test_the_load_other_threads_see_is_that_of_the_last_tick(backend, pool):
    pages = pool.reserve(65)
    assert backend.last_load.pages.used == 0
    backend.tick()
    assert (backend.last_load.pages.used, backend.last_load.pages.free) == (2, 2)
    pool.discard(pages)


def test_the_pool_is_checked_once_when_the_worker_falls_idle(backend, pool, monkeypatch):
    checks = []
    monkeypatch.setattr(pool, "check_integrity", lambda: checks.append(1))
    backend.tick()
    backend.tick()
    assert checks == [1]


def test_a_failed_integrity_check_is_counted(backend, pool):
    pool._pages.add_audit(lambda: ["a page is lost"])
    backend.tick()
    assert backend.integrity_failures == 1


async def test_a_worker_says_whether_it_is_drained(backend):
    assert not backend.load().draining
    assert (await backend.drain()).outstanding == 0
    assert backend.load().draining
    await backend.undrain()
    assert not backend.load().draining


async def test_a_vision_worker_reads_nobody_and_says_whom_to_ask_instead(backend):
    with pytest.raises(
        UnsupportedOperation, match=r"never reads from peers. Swap the two: .*decode:50053 read from this"
    ):
        await backend.check_transfer("decode:50053", "decode", 64)
