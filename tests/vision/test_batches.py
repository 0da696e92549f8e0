"""Images that wait together are encoded together."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack

import pytest
import torch

from services.common.errors import Cancelled, InternalError
from services.common.media.video_file import VideoLimits
from services.families.kimi.family import MEDIA
from services.vision import model_thread
from services.vision.backlog import Backlog
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows
from services.vision.encoder import ImageEncoder
from services.vision.model_thread import ModelThread
from services.vision.preprocess import preprocess_image
from tests.support.late_stream import LateStream, LateTensor
from tests.support.waiting import until

PAGES = 8


@pytest.fixture
def rows(model):
    return allocate_embedding_rows(PAGES, model.config.text_hidden_size)


@pytest.fixture
def thread(model, rows):
    thread = ModelThread(model, rows, batch=3)
    yield thread
    model.gate.set()
    thread.close()


@pytest.fixture
def patches(image_file):
    return [preprocess_image(image_file(seed=seed), 1_000_000, MEDIA) for seed in range(5)]


def wait_for(model) -> None:
    assert model.entered.wait(30)
    model.entered.clear()


def test_images_that_come_while_the_model_works_are_its_next_batch(model, thread, rows, patches):
    model.gate.clear()
    futures = [thread.encode(patches[0], [0], threading.Event())]
    wait_for(model)
    futures += [thread.encode(each, [page], threading.Event()) for page, each in enumerate(patches[1:], 1)]
    model.gate.set()
    shares = [future.result(30) for future in futures]
    assert model.runs == 3
    assert shares == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3, 1])
    for page, each in enumerate(patches):
        grid = each.grid
        alone = model.encode(torch.from_numpy(each.pixels), (grid.grid_t, grid.grid_h, grid.grid_w))
        torch.testing.assert_close(rows[page, : len(alone)], alone, rtol=0, atol=1e-5)


def test_an_image_on_which_the_model_fails_takes_no_other_of_its_batch_along(
    model, thread, rows, patches, monkeypatch
):
    encode_all, bad = model.encode_all, patches[2].pixels

    def failing(media, before_layer):
        if any(pixels.data_ptr() == bad.ctypes.data for pixels, _ in media):
            raise RuntimeError("out of memory")
        return encode_all(media, before_layer)

    monkeypatch.setattr(model, "encode_all", failing)
    model.gate.clear()
    first = thread.encode(patches[0], [0], threading.Event())
    wait_for(model)
    futures = [thread.encode(patches[page], [page], threading.Event()) for page in (1, 2, 3)]
    model.gate.set()
    assert first.result(30) == futures[0].result(30) == futures[2].result(30) == 1
    with pytest.raises(InternalError, match="could not be encoded"):
        futures[1].result(30)
    assert rows[1].any()
    assert rows[3].any()
    assert not rows[2].any()


def test_a_batch_ends_early_only_when_nobody_waits_for_any_of_it(model, thread, patches):
    for leaving in (1, 3):
        model.gate.clear()
        first = thread.encode(patches[0], [0], threading.Event())
        wait_for(model)
        stops = [threading.Event() for _ in range(3)]
        futures = [thread.encode(patches[page], [page], stop) for page, stop in enumerate(stops, 1)]
        for stop in stops[:leaving]:
            stop.set()
        model.gate.set()
        first.result(30)
        if leaving == 1:
            assert [future.result(30) for future in futures] == pytest.approx([1 / 3] * 3)
        else:
            for future in futures:
                with pytest.raises(Cancelled):
                    future.result(30)
        model.entered.clear()


def test_an_embedding_is_done_when_the_gpu_has_written_it(patches, monkeypatch):
    stream, rows = LateStream(), allocate_embedding_rows(2, 4)
    on_gpu = ExitStack()
    monkeypatch.setattr(model_thread, "compute_on", lambda _: on_gpu.enter_context(stream.installed()))

    class Ones:
        """A model whose only kernel runs late."""

        def encode_all(self, media, check):
            values = stream.empty(3, 4)
            stream.give("the model", lambda: values.held.fill_(1))
            return [values]

    thread = ModelThread(Ones(), LateTensor(rows, stream))
    thread.encode(patches[0], [1], threading.Event()).result(30)
    assert rows[1, :3].eq(1).all()
    assert rows[1, 3:].eq(0).all()
    thread._executor.submit(on_gpu.close).result(30)
    thread.close()


async def test_an_encoder_lets_as_many_images_at_the_model_as_it_takes_at_a_time(
    model, rows, thread, image_file, sha256
):
    pool = EmbeddingPool(rows, hold_s=60.0, lease_s=60.0)
    limits = VideoLimits(1_000_000, 1_000, 60.0)
    encoder = ImageEncoder(pool, thread, MEDIA, 1_000_000, limits, Backlog(10, 100_000), 1, batch=3)
    model.gate.clear()
    images = [image_file(seed=seed) for seed in range(5)]
    tasks = [asyncio.create_task(encoder.encode(sha256(image), image)) for image in images]
    await until(lambda: encoder.running == 3)
    assert encoder.waiting == 2
    model.gate.set()
    embeddings = [answer.embedding for answer in await asyncio.gather(*tasks)]
    assert (encoder.running, encoder.waiting) == (0, 0)
    assert len({embedding.pages for embedding in embeddings}) == 5
    assert model.runs < 5
    encoder.close()
