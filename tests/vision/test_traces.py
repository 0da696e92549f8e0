"""A call of a traced request has a span with the stages of its file."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from perigee.v1 import vision_pb2
from services.common.errors import InvalidRequest
from services.common.media.video_file import VideoLimits
from services.families.kimi.family import MEDIA
from services.vision.backlog import Backlog
from services.vision.embedding_pool import EmbeddingPool, allocate_embedding_rows
from services.vision.encoder import ImageEncoder
from services.vision.model_thread import ModelThread
from services.vision.server import VisionServicer
from tests.support.recorded_traces import PARENT, RecordedTracer

CONTEXT = SimpleNamespace(time_remaining=lambda: None)


@pytest.fixture
def tracer():
    return RecordedTracer()


@pytest.fixture
async def servicer(model, tracer):
    rows = allocate_embedding_rows(8, model.config.text_hidden_size)
    pool = EmbeddingPool(rows, hold_s=60.0, lease_s=60.0)
    thread = ModelThread(model, rows)
    limits = VideoLimits(1_000_000, 1_000, 60.0)
    encoder = ImageEncoder(pool, thread, MEDIA, 1_000_000, limits, Backlog(3, 100_000), threads=1)
    yield VisionServicer(encoder, MEDIA, None, None, "vision-a", 60_000, tracer)
    encoder.close()
    await asyncio.to_thread(thread.close)


async def test_an_image_has_its_stages_and_from_the_cache_none(servicer, tracer, image_file):
    request = vision_pb2.EncodeRequest(image=image_file(), traceparent=PARENT)
    await servicer.Encode(request, CONTEXT)
    await servicer.Encode(request, CONTEXT)
    first, second = tracer.traces
    assert first.carried == {"traceparent": PARENT}
    assert {name for name, _, _ in first.stages} == {"queue", "preprocess", "compute"}
    assert first.began <= min(began for _, began, _ in first.stages)
    assert max(ended for _, _, ended in first.stages) <= first.ended
    assert (first.attributes["cached"], second.attributes["cached"]) == (0, 1)
    assert second.stages == []


async def test_a_failure_is_in_the_span(servicer, tracer):
    with pytest.raises(InvalidRequest):
        await servicer.Encode(vision_pb2.EncodeRequest(image=b"no", traceparent=PARENT), CONTEXT)
    [trace] = tracer.traces
    assert (trace.error, trace.ended is not None) == ("INVALID_REQUEST", True)


async def test_a_call_without_a_context_has_no_span(servicer, tracer, image_file):
    await servicer.Encode(vision_pb2.EncodeRequest(image=image_file()), CONTEXT)
    assert tracer.traces == []
