"""Many large images at once: each is encoded once, in its turn, or refused before anything is done for it."""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import Executor, Future

import numpy as np
import pytest

from services.common.errors import Cancelled, DeadlineExceeded, Overloaded
from services.common.media.video_file import VideoLimits
from services.families.kimi.family import MEDIA
from services.families.kimi.media import image_grid
from services.vision import encoder as encoder_module
from services.vision.backlog import Backlog, Terms
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows
from services.vision.encoder import ImageEncoder
from services.vision.preprocess import Patches, count_patches
from tests.gateway.pictures import header_only

pytestmark = pytest.mark.virtual_time

HUGE = image_grid(7000, 7000)
PATCHES = HUGE.grid_h * HUGE.grid_w
LIMIT_S, HOUR_S = 60.0, 3600.0


class Inline(Executor):
    """Decodes on the spot."""

    def __init__(self, *_, **__):
        pass

    def submit(self, function, *given):
        future = Future()
        future.set_result(function(*given))
        return future


class SlowModel:
    """Takes `seconds` of the loop's time per image; looks at `stop` once a second, as between layers."""

    def __init__(self):
        self.seconds = 40.0
        self.runs = 0
        self.at_once = 0
        self.tasks = []

    def encode(self, patches, pages, stop):
        self.runs += 1
        future = Future()
        self.tasks.append(asyncio.create_task(self._run(future, stop, self.seconds)))
        return future

    async def _run(self, future, stop, seconds):
        self.at_once += 1
        assert self.at_once == 1
        while seconds > 0 and not stop.is_set():
            await asyncio.sleep(1.0)
            seconds -= 1.0
        self.at_once -= 1
        if stop.is_set():
            future.set_exception(Cancelled("stopped"))
        else:
            future.set_result(1.0)


@pytest.fixture
def model():
    return SlowModel()


@pytest.fixture
def make(model, monkeypatch):
    monkeypatch.setattr(encoder_module, "ThreadPoolExecutor", Inline)
    monkeypatch.setattr(
        encoder_module, "preprocess_image", lambda *_: Patches(np.zeros((PATCHES, 0), np.float32), HUGE)
    )
    pool = EmbeddingPool(allocate_embedding_rows(1024, 1), hold_s=60.0, lease_s=60.0)

    def make(most_patches=16 * PATCHES):
        limits = VideoLimits(1_000_000, 1_000, 60.0)
        return ImageEncoder(pool, model, MEDIA, 50_000_000, limits, Backlog(64, most_patches), 1)

    return make


def ask(encoder, number, left_s=HOUR_S, tenant=0):
    file = number.to_bytes(1, "little")
    terms = Terms(PATCHES, LIMIT_S, left_s, tenant)
    return asyncio.create_task(encoder.encode(hashlib.sha256(file).digest(), file, "standard", terms))


async def test_eight_huge_images_at_once_are_all_encoded_once_though_they_queue_longer_than_the_limit(
    make, model
):
    began = asyncio.get_running_loop().time()
    encoder = make()
    await asyncio.gather(*(ask(encoder, number) for number in range(8)))
    assert model.runs == 8
    assert asyncio.get_running_loop().time() - began >= 8 * 40.0 > LIMIT_S


async def test_an_image_that_takes_longer_than_its_limit_is_broken_off_and_those_behind_it_are_encoded(
    make, model
):
    encoder = make()
    model.seconds = 61.0
    slow = ask(encoder, 0)
    await asyncio.sleep(1.0)
    model.seconds = 40.0
    behind = [ask(encoder, number) for number in (1, 2)]
    with pytest.raises(DeadlineExceeded, match="more than 60 s"):
        await slow
    await asyncio.gather(*behind)
    assert model.runs == 3


async def test_an_image_whose_turn_cannot_come_in_its_callers_time_is_refused_at_once(make, model):
    encoder = make()
    await ask(encoder, 0)
    accepted = [ask(encoder, number, left_s=130.0) for number in (1, 2, 3)]
    await asyncio.sleep(0.001)
    began = asyncio.get_running_loop().time()
    with pytest.raises(
        Overloaded, match="would take 120 s or more, and the request has 100 s left"
    ) as caught:
        await ask(encoder, 4, left_s=100.0)
    assert caught.value.retry_after_s == pytest.approx(20.0, rel=0.01)
    assert asyncio.get_running_loop().time() == began
    await asyncio.gather(*accepted)
    assert model.runs == 4


async def test_without_a_known_rate_or_with_nothing_queued_no_image_is_refused_for_its_time(make):
    encoder = make()
    both = [ask(encoder, 0, left_s=50.0), ask(encoder, 1, left_s=50.0)]
    await asyncio.gather(*both)
    assert not (await ask(encoder, 2, left_s=0.1)).cached


async def test_a_queue_is_bounded_by_the_patches_of_its_images_not_by_the_size_of_their_files(make, model):
    encoder = make(most_patches=3 * PATCHES)
    accepted = [ask(encoder, number) for number in range(3)]
    await asyncio.sleep(0.001)
    with pytest.raises(Overloaded, match=f"they would exceed {3 * PATCHES}"):
        await ask(encoder, 3)
    await asyncio.gather(*accepted)
    await ask(encoder, 3)
    assert model.runs == 4


async def test_a_lone_image_enters_however_many_patches_it_has(make):
    assert not (await ask(make(most_patches=1), 0)).cached


FLOOD, OTHER = 11, 22


async def test_one_tenants_images_delay_anothers_by_the_one_that_is_in_the_model(make, model):
    encoder = make()
    await ask(encoder, 0)  # the rate is known
    floods = [ask(encoder, number, tenant=FLOOD) for number in range(1, 7)]
    await asyncio.sleep(0.001)
    began = asyncio.get_running_loop().time()
    # All that waits would take 240 s: that is no reason to refuse it.
    await ask(encoder, 7, left_s=100.0, tenant=OTHER)
    assert asyncio.get_running_loop().time() - began == pytest.approx(80.0, abs=1.0)
    with pytest.raises(Overloaded, match="the request has 100 s left"):
        await ask(encoder, 8, left_s=100.0, tenant=FLOOD)
    await asyncio.gather(*floods)


async def test_one_tenants_images_leave_room_for_anothers(make):
    encoder = make(most_patches=8 * PATCHES)
    floods = [ask(encoder, number, tenant=FLOOD) for number in range(8)]
    await asyncio.sleep(0.001)
    refused = [flood for flood in floods if flood.done()]
    assert len(refused) == 2
    for each in refused:
        with pytest.raises(Overloaded, match="this API key has its share"):
            await each
    await ask(encoder, 9, tenant=OTHER)
    await asyncio.gather(*(flood for flood in floods if flood not in refused))


def test_an_image_weighs_what_it_has_after_resizing():
    large, huge = (count_patches(header_only(side, side), MEDIA, "standard") for side in (3500, 7000))
    assert large == pytest.approx(huge, rel=0.05)
    assert huge == PATCHES
    assert count_patches(header_only(28, 56), MEDIA, "standard") == 8
    assert count_patches(b"no image", MEDIA, "standard") == 0
