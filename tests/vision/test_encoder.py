"""Encode requests meeting on the event loop."""

from __future__ import annotations

import asyncio

import pytest
import torch

from services.common.errors import InternalError, InvalidRequest, Overloaded, PagesExhausted, Unavailable
from services.common.media.video_file import VideoLimits
from services.common.telemetry.worker_metrics import WorkerMetrics
from services.families.kimi.family import MEDIA
from services.families.media import chunk_hash
from services.vision.backlog import Backlog
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows
from services.vision.encoder import STAGES, ImageEncoder
from services.vision.model_thread import ModelThread
from services.vision.preprocess import preprocess_image
from services.vision.video import preprocess_video, read_chunks
from tests.support.samples import samples
from tests.support.videos import film
from tests.support.waiting import let_tasks_run, until

PAGES = 8
MAX_WAITING = 3
VIDEO_LIMITS = VideoLimits(1_000_000, 1_000, 60.0)


@pytest.fixture
def rows(model):
    return allocate_embedding_rows(PAGES, model.config.text_hidden_size)


@pytest.fixture
def pool(rows):
    pool = EmbeddingPool(rows, hold_s=60.0, lease_s=60.0)
    yield pool
    assert pool.counts().used == 0
    pool.check_integrity()


@pytest.fixture
def metrics():
    return WorkerMetrics(STAGES)


@pytest.fixture
async def encoder(model, rows, pool, metrics):
    thread = ModelThread(model, rows)
    encoder = ImageEncoder(
        pool,
        thread,
        MEDIA,
        max_pixels=1_000_000,
        video_limits=VIDEO_LIMITS,
        backlog=Backlog(MAX_WAITING, 100_000),
        threads=1,
        metrics=metrics,
    )
    yield encoder
    model.gate.set()
    await until(lambda: encoder.running + encoder.waiting == 0)
    encoder.close()
    await asyncio.to_thread(thread.close)


@pytest.fixture
def encode(encoder, sha256):
    async def encode(image: bytes):
        return await encoder.encode(sha256(image), image)

    return encode


async def started(model, encode, image: bytes):
    """A task whose image the model is working on, held up at the gate."""
    model.gate.clear()
    task = asyncio.create_task(encode(image))
    await asyncio.to_thread(model.entered.wait, 30)
    return task


async def leave(task) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_encoded_image_lies_in_the_pool_as_the_model_made_it(encode, model, rows, image_file):
    image = image_file(300, 280, 1)
    embedding = (await encode(image)).embedding
    expected = model.encode(
        torch.from_numpy(preprocess_image(image, 1_000_000, MEDIA).pixels), embedding.grid
    )
    assert embedding.num_tokens == expected.shape[0] == 110
    stored = rows[list(embedding.pages)].flatten(0, 1)
    assert torch.equal(stored[:110], expected)
    assert (stored[110:] == 0).all()


async def test_the_second_request_for_an_image_is_answered_from_the_pool(encoder, encode, model, image_file):
    first, second = await encode(image_file()), await encode(image_file())
    assert (first.cached, second.cached) == (False, True)
    assert first.embedding is second.embedding
    assert model.runs == 1
    assert (encoder.counts.hits, encoder.counts.misses) == (1, 1)


async def test_identical_images_at_once_are_encoded_once(encoder, encode, model, image_file):
    answers = await asyncio.gather(*(encode(image_file()) for _ in range(8)))
    assert len({id(answer.embedding) for answer in answers}) == 1
    assert model.runs == 1
    assert (encoder.counts.hits, encoder.counts.misses) == (7, 1)


async def test_an_image_in_the_pool_is_answered_while_the_model_works_on_another(encode, model, image_file):
    await encode(image_file(seed=1))
    model.entered.clear()
    running = await started(model, encode, image_file(seed=2))
    assert (await asyncio.wait_for(encode(image_file(seed=1)), 5)).cached
    model.gate.set()
    await running


async def test_more_images_than_may_wait_are_refused_at_once(encoder, encode, model, image_file):
    model.gate.clear()
    images = [image_file(seed=seed) for seed in range(MAX_WAITING + 1)]
    waiting = [asyncio.create_task(encode(image)) for image in images[:MAX_WAITING]]
    await until(lambda: (encoder.running, encoder.waiting) == (1, MAX_WAITING - 1))
    with pytest.raises(Overloaded):
        await asyncio.wait_for(encode(images[-1]), 5)
    model.gate.set()
    await asyncio.gather(*waiting)
    await encode(images[-1])


async def test_without_room_the_model_is_not_run(encode, model, image_file):
    for seed in (1, 2):
        await encode(image_file(448, 448, seed))
    with pytest.raises(PagesExhausted):
        await encode(image_file(seed=3))
    assert model.runs == 2


async def test_a_waiting_image_that_nobody_wants_any_more_is_dropped(encoder, encode, model, image_file):
    running = await started(model, encode, image_file(seed=1))
    waiting = asyncio.create_task(encode(image_file(seed=2)))
    await until(lambda: encoder.waiting == 1)
    await leave(waiting)
    await until(lambda: encoder.waiting == 0)
    model.gate.set()
    await running
    assert model.runs == 1


async def test_a_running_image_that_nobody_wants_any_more_is_broken_off(
    encoder, encode, model, pool, image_file
):
    running = await started(model, encode, image_file())
    assert pool.counts().used == 1
    await leave(running)
    assert (encoder.running, pool.counts().used) == (1, 1)
    model.gate.set()
    await until(lambda: encoder.running == 0)
    assert pool.counts().free == PAGES


async def test_a_caller_that_leaves_does_not_take_the_image_from_another(encode, model, image_file):
    leaving = await started(model, encode, image_file())
    staying = asyncio.create_task(encode(image_file()))
    await let_tasks_run()
    await leave(leaving)
    model.gate.set()
    assert (await staying).embedding.num_tokens == 4
    assert model.runs == 1


async def test_an_image_asked_for_again_right_after_it_was_dropped_is_encoded(encode, model, image_file):
    leaving = await started(model, encode, image_file())
    leaving.cancel()
    again = asyncio.create_task(encode(image_file()))
    await let_tasks_run()
    model.gate.set()
    assert (await again).embedding.num_tokens == 4


async def test_an_image_the_model_fails_on_fails_alone_and_leaves_no_page(
    encode, model, pool, image_file, monkeypatch
):
    def fail(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(model, "encode_all", fail)
        with pytest.raises(InternalError, match="could not be encoded"):
            await encode(image_file(seed=1))
    assert pool.counts().free == PAGES
    await encode(image_file(seed=2))


async def test_a_broken_image_fails_all_who_wait_for_it_and_is_not_remembered(encoder, encode):
    answers = await asyncio.gather(encode(b"x"), encode(b"x"), return_exceptions=True)
    assert all(isinstance(answer, InvalidRequest) for answer in answers)
    await until(lambda: encoder.waiting == 0)


async def test_a_draining_encoder_finishes_what_runs_and_takes_in_nothing(encoder, encode, model, image_file):
    running = await started(model, encode, image_file())
    assert encoder.drain() == 1
    with pytest.raises(Unavailable, match="draining"):
        await encode(b"other")
    model.gate.set()
    assert (await running).embedding.num_tokens == 4
    encoder.undrain()
    assert (await encode(image_file())).embedding.num_tokens == 4


async def test_each_chunk_of_a_video_lies_in_the_pool_as_the_model_made_it(encoder, model, rows, sha256):
    video = film(num_frames=33)
    encoded = await encoder.encode_video(sha256(video), video)
    assert [one.embedding.grid for one in encoded] == [(4, 6, 8), (3, 6, 8)]
    chunks = read_chunks(video, VIDEO_LIMITS, MEDIA)
    made = preprocess_video(video, chunks, VIDEO_LIMITS, lambda: None)
    for index, (one, patches) in enumerate(zip(encoded, made, strict=True)):
        embedding = one.embedding
        assert embedding.content_hash == chunk_hash(sha256(video), index)
        expected = model.encode(torch.from_numpy(patches.pixels), embedding.grid)
        assert torch.equal(rows[list(embedding.pages)].flatten(0, 1)[: embedding.num_tokens], expected)


async def test_a_video_is_encoded_once_for_all_who_ask(encoder, model, sha256):
    video = film(num_frames=33)
    both = await asyncio.gather(*(encoder.encode_video(sha256(video), video) for _ in range(2)))
    again = await encoder.encode_video(sha256(video), video)
    assert model.runs == 2
    assert [one.embedding for one in both[0]] == [one.embedding for one in again]


async def test_a_video_nobody_waits_for_gives_its_pages_back(encoder, model, pool, sha256):
    video = film(num_frames=33)
    task = await started(model, lambda data: encoder.encode_video(sha256(data), data), video)
    task.cancel()
    model.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: encoder.running + encoder.waiting == 0)
    assert (len(pool), pool.counts().free) == (0, PAGES)


async def test_a_video_that_does_not_fit_or_is_broken_is_refused_and_leaves_nothing(encoder, pool, sha256):
    long = film(num_frames=200)
    cut_off = film(num_frames=33)[:300]
    for video in (long, cut_off, b"no video"):
        with pytest.raises(InvalidRequest):
            await encoder.encode_video(sha256(video), video)
    assert pool.counts().free == PAGES


async def test_each_file_has_its_stages_and_each_failure_its_reason(encode, encoder, metrics, image_file):
    image = image_file()
    await encode(image)
    await encode(image)  # from the cache
    with pytest.raises(InvalidRequest):
        await encode(b"no image")
    await until(lambda: not encoder.waiting)
    counts = samples(metrics, "perigee_stage_seconds_count")
    assert counts == {("queue",): 2, ("preprocess",): 2, ("compute",): 1}
    assert samples(metrics, "perigee_request_errors_total") == {("INVALID_REQUEST",): 1}
