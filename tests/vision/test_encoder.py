"""Encode requests meeting on the event loop."""

from __future__ import annotations

import asyncio

import pytest
import torch

from services.common.errors import InvalidRequest, Overloaded, Unavailable
from services.engine.loop import EngineLoop
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows
from services.vision.encoder import ImageEncoder
from services.vision.engine import VisionEngine

MAX_WAITING = 3


@pytest.fixture
def engine(model):
    rows = allocate_embedding_rows(16, model.config.text_hidden_size, torch.float32)
    return VisionEngine(model, EmbeddingPool(rows, hold_s=60.0, lease_s=60.0), lambda _: None)


@pytest.fixture
async def encoder(engine, model):
    failures: list[BaseException] = []
    loop = EngineLoop("vision-test", engine.step, failures.append)
    loop.start()
    encoder = ImageEncoder(engine, loop, max_pixels=1_000_000, max_waiting=MAX_WAITING, threads=1)
    yield encoder
    model.gate.set()
    encoder.close()
    await asyncio.to_thread(loop.stop)
    assert not failures


async def until(condition) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


async def test_the_second_request_for_an_image_is_answered_from_the_pool(encoder, model, image_file, sha256):
    image = image_file()
    first = await encoder.encode(sha256(image), image)
    second = await encoder.encode(sha256(image), image)
    assert (first.cached, second.cached) == (False, True)
    assert first.embedding is second.embedding
    assert model.runs == 1
    assert (encoder.counts.hits, encoder.counts.misses) == (1, 1)


async def test_identical_images_at_once_are_encoded_once(encoder, model, image_file, sha256):
    image = image_file()
    answers = await asyncio.gather(*(encoder.encode(sha256(image), image) for _ in range(8)))
    assert len({id(answer.embedding) for answer in answers}) == 1
    assert model.runs == 1
    assert (encoder.counts.hits, encoder.counts.misses) == (7, 1)


async def test_more_images_than_may_wait_are_refused_at_once(encoder, model, image_file, sha256):
    model.gate.clear()
    images = [image_file(seed=seed) for seed in range(MAX_WAITING + 1)]
    waiting = [asyncio.create_task(encoder.encode(sha256(image), image)) for image in images[:MAX_WAITING]]
    await until(lambda: encoder.outstanding == MAX_WAITING)
    with pytest.raises(Overloaded):
        await encoder.encode(sha256(images[-1]), images[-1])
    model.gate.set()
    await asyncio.gather(*waiting)
    await encoder.encode(sha256(images[-1]), images[-1])


async def test_an_image_nobody_waits_for_any_more_is_dropped(encoder, engine, model, image_file, sha256):
    model.gate.clear()
    first, second = image_file(seed=1), image_file(seed=2)
    running = asyncio.create_task(encoder.encode(sha256(first), first))
    await asyncio.to_thread(model.entered.wait)
    dropped = asyncio.create_task(encoder.encode(sha256(second), second))
    await until(lambda: encoder.outstanding == 2)
    dropped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dropped
    assert encoder.outstanding == 1
    model.gate.set()
    await running
    await until(lambda: engine.load.waiting == 0)
    assert model.runs == 1


async def test_a_caller_that_leaves_does_not_take_the_image_from_another(encoder, model, image_file, sha256):
    model.gate.clear()
    image = image_file()
    leaving = asyncio.create_task(encoder.encode(sha256(image), image))
    staying = asyncio.create_task(encoder.encode(sha256(image), image))
    await asyncio.to_thread(model.entered.wait)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    model.gate.set()
    assert (await staying).embedding.num_tokens == 4


async def test_an_image_asked_for_again_right_after_it_was_dropped_is_encoded(
    encoder, model, image_file, sha256
):
    model.gate.clear()
    image = image_file()
    leaving = asyncio.create_task(encoder.encode(sha256(image), image))
    await asyncio.to_thread(model.entered.wait)
    leaving.cancel()
    again = asyncio.create_task(encoder.encode(sha256(image), image))
    model.gate.set()
    assert (await again).embedding.num_tokens == 4


async def test_a_broken_image_fails_all_who_wait_for_it_and_is_not_remembered(encoder, sha256):
    answers = await asyncio.gather(
        *(encoder.encode(sha256(b"x"), b"x") for _ in range(2)), return_exceptions=True
    )
    assert all(isinstance(answer, InvalidRequest) for answer in answers)
    assert encoder.outstanding == 0


async def test_a_draining_encoder_finishes_what_runs_and_takes_in_nothing(encoder, model, image_file, sha256):
    model.gate.clear()
    image = image_file()
    running = asyncio.create_task(encoder.encode(sha256(image), image))
    await asyncio.to_thread(model.entered.wait)
    assert encoder.drain() == 1
    with pytest.raises(Unavailable, match="draining"):
        await encoder.encode(sha256(b"other"), b"other")
    model.gate.set()
    assert (await running).embedding.num_tokens == 4
    assert encoder.outstanding == 0
