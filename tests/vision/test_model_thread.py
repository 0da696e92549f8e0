"""The thread of the vision model, when the model or its device does not go on."""

from __future__ import annotations

import threading

import pytest

from services.common.errors import Unavailable
from services.engine.host_copy import DeviceEvent
from services.engine.step_watch import StepWatch
from services.families.kimi.family import MEDIA
from services.vision import model_thread
from services.vision.embedding_pool import allocate_embedding_rows
from services.vision.model_thread import ModelThread
from services.vision.preprocess import preprocess_image
from tests.support.manual_clock import ManualClock


@pytest.fixture
def patches(image_file):
    return preprocess_image(image_file(), 1_000_000, MEDIA)


@pytest.fixture
def reported() -> list[BaseException]:
    return []


@pytest.fixture
def new_thread(model, reported):
    threads = []

    def make(**options) -> ModelThread:
        rows = allocate_embedding_rows(4, model.config.text_hidden_size)
        threads.append(ModelThread(model, rows, on_fatal=reported.append, **options))
        return threads[-1]

    yield make
    model.gate.set()
    for thread in threads:
        thread.close()


def test_a_layer_that_does_not_end_is_reported_while_the_model_still_hangs(
    model, patches, new_thread, reported
):
    clock = ManualClock()
    watch = StepWatch(clock, of="vision model")
    watch.tick_s = 0.001
    thread = new_thread(watch=watch)
    for _ in range(6):
        thread.encode(patches, [0], threading.Event()).result(30)
    model.gate.clear()
    model.entered.clear()
    hanging = thread.encode(patches, [0], threading.Event())
    assert model.entered.wait(30)
    pause = threading.Event()
    for _ in range(2000):
        clock.now += 0.1
        if reported or pause.wait(0.002):
            break
    assert not hanging.done()
    [error] = reported
    assert isinstance(error, Unavailable)
    assert "a step of the vision model has run for" in error.message


def test_an_image_may_take_long_if_its_layers_do_not(model, patches, new_thread, reported, monkeypatch):
    clock = ManualClock()
    watch = StepWatch(clock, of="vision model")
    found: list[str | None] = []
    encode_all = model.encode_all

    def slow(media, before_layer):
        for _ in range(40):
            before_layer()
            for _ in range(19):
                clock.now += 0.1
                found.append(watch.tick())
        return encode_all(media, before_layer)

    monkeypatch.setattr(watch, "report", lambda *_: None)  # this test looks itself
    monkeypatch.setattr(model, "encode_all", slow)
    thread = new_thread(watch=watch)
    for _ in range(2):
        thread.encode(patches, [0], threading.Event()).result(30)
    assert len(found) == 2 * 40 * 19
    assert not any(found)


def test_a_device_that_fails_for_good_ends_the_worker_and_its_images_may_be_encoded_elsewhere(
    model, patches, new_thread, reported, monkeypatch
):
    runs: list[int] = []

    def failing(media, before_layer):
        runs.append(len(media))
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    class Event(DeviceEvent):
        """An event of a GPU on which nothing works any more after the failure."""

        def wait(self) -> None:
            if runs:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(model_thread, "DeviceEvent", Event)
    thread = new_thread(batch=3)
    model.gate.clear()
    first = thread.encode(patches, [0], threading.Event())
    assert model.entered.wait(30)
    monkeypatch.setattr(model, "encode_all", failing)
    futures = [thread.encode(patches, [page], threading.Event()) for page in (1, 2)]
    model.gate.set()
    first.result(30)
    for future in futures:
        with pytest.raises(Unavailable, match="illegal memory access"):
            future.result(30)
    assert runs == [2]
    assert [type(error) for error in reported] == [Unavailable]
