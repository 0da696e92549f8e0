"""A client that goes away, in every phase: what it had asked for is cancelled within a second."""

import asyncio

import pytest

from tests.gateway.pictures import image_part, picture
from tests.gateway.suite import chat_body, wait_until


async def hang_up_when(suite, ready, *, stream, **body):
    """Sends a request and closes the connection once `ready()` holds."""
    request = asyncio.create_task(suite.chat(stream=stream, **body))
    await wait_until(ready)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)


async def nothing_is_left(suite):
    await wait_until(lambda: suite.gateway.pool.decode.workers[0].session.active == 0)
    counts = {
        "perigee_requests_running 0.0",
        "perigee_requests_waiting 0.0",
        'perigee_requests_total{door="rest",outcome="cancelled"} 1.0',
    }

    async def are_shown():
        return counts <= set((await suite.http.get("/metrics")).text.splitlines())

    await wait_until(are_shown)


@pytest.mark.parametrize("stream", [True, False])
async def test_while_tokens_come_the_worker_is_told_to_stop(suite, stream):
    suite.say("word " * 2000)
    suite.decode.step_s = 0.01
    await hang_up_when(suite, lambda: suite.decode.sent > 3, stream=stream)
    await wait_until(suite.decode.cancelled.is_set)
    assert suite.decode.cancels == [suite.decode.submits[0].handle]
    await nothing_is_left(suite)


@pytest.mark.parametrize("stream", [True, False])
async def test_while_queued_the_worker_is_told_to_stop(suite, stream):
    suite.decode.admit.clear()
    await hang_up_when(suite, lambda: suite.decode.submits, stream=stream)
    await wait_until(suite.decode.cancelled.is_set)
    await nothing_is_left(suite)


@pytest.mark.parametrize("stream", [True, False])
async def test_while_an_image_is_encoded_the_encoder_is_told_to_stop(suite, stream):
    suite.vision.release.clear()
    messages = [{"role": "user", "content": [image_part(picture())]}]
    await hang_up_when(suite, suite.vision.started.is_set, stream=stream, messages=messages)
    await wait_until(suite.vision.cancelled.is_set)
    assert not suite.decode.submits
    await nothing_is_left(suite)


async def test_while_sending_its_body_nothing_is_begun(suite, received):
    async def half_a_body():
        yield b'{"messages": [' + b" " * 1000
        await asyncio.Event().wait()

    request = asyncio.create_task(suite.http.post("/v1/chat/completions", content=half_a_body()))
    await wait_until(lambda: received.count > 1000)
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    await nothing_is_left(suite)


async def test_a_finished_answer_is_not_cancelled(suite):
    assert (await suite.http.post("/v1/chat/completions", json=chat_body())).status_code == 200
    await suite.stream()
    # A session sends in order: a Cancel of those would be there before this one's Submit.
    await suite.chat()
    assert suite.decode.cancels == []
