"""The engine of a vision worker, driven by hand."""

from __future__ import annotations

import pytest
import torch

from services.common.errors import Cancelled, InternalError, NotFound, PagesExhausted
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows
from services.vision.engine import EncodeJob, VisionEngine
from services.vision.preprocess import preprocess_image

PAGES = 4


@pytest.fixture
def rows(model):
    return allocate_embedding_rows(PAGES, model.config.text_hidden_size, torch.float32)


@pytest.fixture
def serving() -> list[bool]:
    return []


@pytest.fixture
def engine(model, rows, serving):
    pool = EmbeddingPool(rows, hold_s=60.0, lease_s=60.0)
    yield VisionEngine(model, pool, serving.append)
    pool.check_integrity()


def job(image: bytes, name: bytes = b"a") -> EncodeJob:
    return EncodeJob(name, preprocess_image(image, 1_000_000))


def run(engine: VisionEngine, a_job: EncodeJob) -> EncodeJob:
    engine.submit(a_job)
    while engine.step():
        pass
    return a_job


def test_an_encoded_image_lies_in_the_pool_as_the_model_made_it(engine, model, rows, image_file):
    image = image_file(300, 280, 1)
    embedding = run(engine, job(image)).done.result(0)
    patches = preprocess_image(image, 1_000_000)
    expected = model.encode(torch.from_numpy(patches.pixels), embedding.grid)
    assert embedding.num_tokens == expected.shape[0] == 110
    assert torch.equal(rows[list(embedding.pages)].flatten(0, 1)[:110], expected)


def test_an_image_that_is_in_the_pool_by_now_is_not_encoded_again(engine, model, image_file):
    first, second = job(image_file()), job(image_file())
    engine.submit(first)
    run(engine, second)
    assert first.done.result(0) is second.done.result(0)
    assert model.runs == 1


def test_a_cancelled_image_is_skipped(engine, model, image_file):
    a_job = job(image_file())
    a_job.done.cancel()
    run(engine, a_job)
    assert model.runs == 0
    assert engine.load.pages.free == PAGES


def test_without_room_the_model_is_not_run(engine, model, image_file):
    run(engine, job(image_file(448, 448, 1), b"large"))
    assert engine.load.pages.cached == PAGES
    refused = run(engine, job(image_file(), b"small"))
    with pytest.raises(PagesExhausted):
        refused.done.result(0)
    assert model.runs == 1


def test_an_image_the_model_fails_on_fails_alone_and_leaves_no_page(engine, model, image_file, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(model, "encode", fail)
        failed = run(engine, job(image_file(), b"failing"))
    with pytest.raises(InternalError, match="could not be encoded"):
        failed.done.result(0)
    assert engine.load.pages.free == PAGES
    run(engine, job(image_file(), b"next")).done.result(0)


def test_waiting_images_and_pages_are_reported(engine, image_file):
    engine.submit(job(image_file(), b"a"))
    engine.submit(job(image_file(56, 56, 1), b"b"))
    assert engine.load.waiting == 2
    engine.step()
    assert (engine.load.waiting, engine.load.pages.cached, engine.load.embeddings) == (1, 1, 1)


def test_serving_begins_with_the_first_lease_and_ends_with_the_last(engine, serving, image_file):
    run(engine, job(image_file()))
    engine.lease("reader", 1, [b"a"])
    engine.lease("other", 1, [b"a"])
    engine.release("reader", 1)
    assert serving == [True]
    engine.release("other", 1)
    assert serving == [True, False]


def test_a_broken_stream_keeps_serving_until_the_reader_has_settled(engine, serving, image_file):
    run(engine, job(image_file()))
    engine.lease("reader", 1, [b"a"])
    engine.abandon("reader", 1)
    assert engine.load.pages.quarantined == 1
    assert serving == [True]
    engine.settled("reader", [1])
    assert engine.load.pages.quarantined == 0
    assert serving == [True, False]


def test_a_reader_that_is_gone_leaves_nothing_and_may_come_again(engine, image_file):
    run(engine, job(image_file()))
    engine.lease("reader", 1, [b"a"])
    engine.lease("reader", 2, [b"a"])
    engine.abandon("reader", 2)
    engine.reader_gone("reader")
    assert engine.load.pages.cached == 1
    with pytest.raises(Cancelled):
        engine.lease("reader", 1, [b"a"])
    engine.reader_joined("reader")
    engine.lease("reader", 1, [b"a"])
    assert engine.load.pages.leased == 1


def test_a_lease_that_is_over_cannot_be_renewed(engine, image_file):
    run(engine, job(image_file()))
    engine.lease("reader", 1, [b"a"])
    engine.renew("reader", 1)
    engine.release("reader", 1)
    with pytest.raises(NotFound, match="ran out"):
        engine.renew("reader", 1)


def test_releasing_abandoning_and_settling_may_come_late_and_twice(engine, image_file):
    run(engine, job(image_file()))
    engine.lease("reader", 1, [b"a"])
    engine.release("reader", 1)
    engine.abandon("reader", 1)
    engine.release("reader", 1)
    engine.settled("reader", [1, 1])
    engine.reader_gone("reader")
    engine.reader_gone("reader")
    assert engine.load.pages.cached == 1
