"""When workers fail, are missing or are too busy: what the client is told."""

import asyncio
import functools

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from perigee.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    chat_pb2,
    chat_pb2_grpc,
    decode_pb2,
    generation_pb2,
    generation_pb2_grpc,
)
from services.common.errors import Overloaded
from services.common.rpc.status import from_rpc_error
from services.gateway.workers.circuit import Circuit
from services.gateway.workers.router import Router
from tests.gateway.pictures import image_part, picture
from tests.gateway.suite import joined, open_suite, parse_events, wait_until
from tests.support.manual_clock import ManualClock
from tests.support.waiting import let_tasks_run, scaled


def one_message():
    return chat_pb2.ChatRequest(
        messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])]
    )


@pytest.fixture
async def mortal():
    """A suite whose requests do not go on elsewhere, and whose decode worker dies after five steps."""
    async with open_suite(max_failovers=0) as suite:
        suite.say("a</think>" + "word " * 100)
        suite.decode.fail_after = 5
        yield suite


async def test_a_failure_for_good_ends_a_stream_with_an_error_event(mortal):
    chunks = await mortal.stream()
    error = chunks[-1]["error"]
    assert error["code"] == "unavailable"
    assert mortal.workers["decode0"].address in error["message"]
    assert joined(chunks[:-1], "reasoning_content") == "a"


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/completions", {"prompt": "x", "max_tokens": 50}), ("/generate", {"text": "x"})]
)
async def test_a_failure_for_good_ends_every_stream_with_an_error_event(mortal, path, body):
    answer = await mortal.http.post(path, json={"stream": True, **body})
    events = parse_events(answer.text)
    assert len(events) > 1
    assert events[-1]["error"]["code"] == "unavailable"
    assert not answer.text.endswith("[DONE]\n\n")


async def test_over_grpc_a_stream_of_raw_text_ends_with_a_status(mortal):
    stub = generation_pb2_grpc.GenerationServiceStub(mortal.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.StreamGenerate(generation_pb2.GenerateRequest(text="x")):
            pass
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_failure_for_good_without_streaming_is_a_503(mortal):
    answer = await mortal.chat()
    assert answer.status_code == 503
    assert mortal.workers["decode0"].address in answer.json()["error"]["message"]


async def test_over_grpc_a_failure_for_good_is_unavailable(mortal):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in chat_pb2_grpc.ChatServiceStub(mortal.channel).Stream(one_message()):
            pass
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert mortal.workers["decode0"].address in caught.value.details()


async def test_after_a_break_the_session_is_opened_again(mortal):
    assert (await mortal.chat()).status_code == 503
    mortal.decode.fail_after = None
    await wait_until(lambda: mortal.gateway.pool.decode.workers[0].serving)
    assert (await mortal.chat()).status_code == 200


@pytest.mark.parametrize(
    ("code", "reason", "status", "error_code"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED", 429, "overloaded"),
        (grpc.StatusCode.UNAVAILABLE, "TRANSFER_FAILED", 503, "unavailable"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", 504, "deadline_exceeded"),
        (grpc.StatusCode.INTERNAL, "INTERNAL", 500, "internal"),
    ],
)
async def test_a_refusal_of_the_worker_becomes_a_status(suite, code, reason, status, error_code):
    suite.decode.refuse = decode_pb2.RequestError(code=code.value[0], reason=reason, message="no")
    for stream in (False, True):
        answer = await suite.chat(stream=stream)
        assert answer.status_code == status
        assert answer.json()["error"]["code"] == error_code
        assert ("retry-after" in answer.headers) == (status in (429, 503))


async def test_a_worker_that_is_too_busy_says_when_to_come_back(suite):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    suite.decode.refuse = decode_pb2.RequestError(
        code=code, reason="OVERLOADED", message="no", retry_after_ms=6200
    )
    answer = await suite.chat()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat_pb2_grpc.ChatServiceStub(suite.channel).Complete(one_message())
    assert from_rpc_error(caught.value).retry_after_s == 6.2


async def test_without_a_decode_worker_requests_get_503_naming_it():
    async with open_suite(worker_wait_seconds=0.0) as suite:
        await suite.workers["decode0"].stop()
        await wait_until(lambda: suite.gateway.pool.missing_roles())
        answer = await suite.chat()
        assert answer.status_code == 503
        assert suite.workers["decode0"].address in answer.json()["error"]["message"]


async def test_without_a_prefill_worker_decode_is_asked_to_compute_prompts(suite):
    fake = suite.workers["prefill"]
    await suite.chat()
    await fake.stop()
    await wait_until(lambda: suite.gateway.pool.missing_roles())
    assert (await suite.chat()).status_code == 200
    port = int(fake.address.rpartition(":")[2])
    suite.workers["prefill"] = await type(fake).start(fake.worker, port=port)
    await wait_until(lambda: not suite.gateway.pool.missing_roles())
    assert (await suite.chat()).status_code == 200
    named = [list(submit.prefill_addresses) for submit in suite.decode.submits]
    assert named == [[fake.address], [], [fake.address]]


async def test_without_an_encoder_only_images_get_503_and_only_after_a_while():
    async with open_suite(worker_wait_seconds=0.5) as suite:
        await suite.workers["vision"].stop()
        await wait_until(lambda: suite.gateway.pool.missing_roles())
        answer = await suite.chat(messages=[{"role": "user", "content": [image_part(picture())]}])
        assert answer.status_code == 503
        assert "no vision worker can serve" in answer.json()["error"]["message"]
        assert (await suite.chat()).status_code == 200


async def test_an_image_waits_for_an_encoder_that_comes_back(monkeypatch):
    asked, require = [], Router.require

    def count(router, *, images):
        asked.append(images)
        require(router, images=images)

    monkeypatch.setattr(Router, "require", count)
    async with open_suite(worker_wait_seconds=60.0) as suite:
        fake = suite.workers["vision"]
        await fake.stop()
        await wait_until(lambda: suite.gateway.pool.missing_roles())
        asking = asyncio.create_task(
            suite.chat(messages=[{"role": "user", "content": [image_part(picture())]}])
        )
        await wait_until(lambda: asked.count(True) > 1)
        port = int(fake.address.rpartition(":")[2])
        suite.workers["vision"] = await type(fake).start(fake.worker, suite.vision, port=port)
        assert (await asking).status_code == 200


async def test_an_encode_that_fails_is_tried_again_within_the_wait():
    messages = [{"role": "user", "content": [image_part(picture())]}]
    async with open_suite(worker_wait_seconds=60.0) as suite:
        suite.vision.failures = 3
        assert (await suite.chat(messages=messages)).status_code == 200
        assert len(suite.vision.encoded) == 1
    async with open_suite(worker_wait_seconds=0.3) as suite:
        suite.vision.failures = 1000
        answer = await suite.chat(messages=messages)
        assert answer.status_code == 503
        assert suite.workers["vision"].address in answer.json()["error"]["message"]


async def test_an_image_that_takes_an_encoder_longer_than_its_limit_is_not_sent_there_again():
    async with open_suite(worker_wait_seconds=0.1, encode_timeout_seconds=0.2) as suite:
        suite.vision.release.clear()
        answer = await suite.chat(messages=[{"role": "user", "content": [image_part(picture())]}])
        assert answer.status_code == 503
        assert (
            "did not encode messages[0].content[0].image_url.url in 0.2 s"
            in answer.json()["error"]["message"]
        )
        assert suite.vision.calls == 1


async def test_a_decode_worker_whose_sessions_keep_breaking_is_paused_and_shown_as_paused():
    async with open_suite(decodes=2) as suite:
        worker = suite.gateway.pool.decode.workers[0]
        if worker.link.address != suite.workers["decode0"].address:
            worker = suite.gateway.pool.decode.workers[1]
        worker.link.circuit = Circuit(ManualClock())  # the pause does not end
        for _ in range(3):
            await wait_until(lambda: worker.session.connected and suite.decodes[0].has_session)
            suite.decodes[0].die()
            await wait_until(lambda: not worker.session.connected)
        await wait_until(lambda: worker.session.connected)
        admin = admin_pb2_grpc.AdminServiceStub(suite.operator)
        listed = (await admin.ListWorkers(admin_pb2.ListWorkersRequest())).workers
        assert [each.address for each in listed if each.paused] == [worker.link.address]
        for _ in range(4):
            assert (await suite.chat()).status_code == 200
        assert [len(decode.submits) for decode in suite.decodes] == [0, 4]


async def test_images_that_queue_longer_than_one_may_take_are_sent_once_and_all_answered():
    async with open_suite(encode_timeout_seconds=0.3) as suite:
        suite.vision.pace_s = 0.1
        parts = [image_part(picture(40 + number)) for number in range(8)]
        asking = [suite.chat(messages=[{"role": "user", "content": [part]}]) for part in parts]
        assert [answer.status_code for answer in await asyncio.gather(*asking)] == [200] * 8
        assert suite.vision.calls == 8


async def test_an_encoder_whose_queue_is_full_is_not_asked_again_and_the_answer_says_when_to():
    async with open_suite(worker_wait_seconds=60.0) as suite:
        suite.vision.refuse = Overloaded("the queue is full", retry_after_s=7.0)
        answer = await suite.chat(messages=[{"role": "user", "content": [image_part(picture())]}])
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        assert suite.vision.calls == 1


async def test_an_encoder_that_hangs_is_given_up_when_its_reports_stay_out():
    async with open_suite(worker_wait_seconds=0.1) as suite:
        suite.vision.release.clear()
        asking = asyncio.create_task(
            suite.chat(messages=[{"role": "user", "content": [image_part(picture())]}])
        )
        await wait_until(suite.vision.started.is_set)
        suite.workers["vision"].worker.silent = True
        answer = await asking
        assert answer.status_code == 503
        await wait_until(suite.vision.cancelled.is_set)


async def test_an_embedding_lost_before_the_first_token_is_encoded_again(suite):
    messages = [{"role": "user", "content": [image_part(picture())]}]
    code = grpc.StatusCode.UNAVAILABLE.value[0]
    suite.decode.refuse = decode_pb2.RequestError(code=code, reason="MEDIA_LOST", message="gone")
    suite.decode.refusals = 1
    assert (await suite.chat(messages=messages)).status_code == 200
    first, second = suite.decode.submits
    assert first.sampling == second.sampling
    assert first.request_id == second.request_id
    assert len(suite.vision.encoded) == 2


async def test_an_encoder_that_counts_otherwise_is_not_believed(suite):
    suite.vision.extra_rows = 1
    answer = await suite.chat(messages=[{"role": "user", "content": [image_part(picture())]}])
    assert answer.status_code == 503
    assert not suite.decode.submits


async def test_requests_beyond_the_limit_get_429_at_both_doors():
    async with open_suite(max_concurrent_requests=1) as suite:
        suite.decode.admit.clear()
        first = asyncio.create_task(suite.chat())
        await wait_until(lambda: suite.decode.submits)
        shed = await suite.http.post("/v1/chat/completions", content=b"not even read")
        assert shed.status_code == 429
        assert int(shed.headers["retry-after"]) >= 1
        assert shed.json()["error"]["code"] == "overloaded"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await chat_pb2_grpc.ChatServiceStub(suite.channel).Complete(one_message())
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        suite.decode.admit.set()
        assert (await first).status_code == 200
        assert len(suite.decode.submits) == 1


async def test_a_request_that_outlives_its_time_is_cancelled_and_gets_504():
    # Not the time of a request that is rendered and sent at once, however busy the machine is.
    timeout_s = scaled(0.3)
    async with open_suite(request_timeout_seconds=timeout_s) as suite:
        suite.decode.admit.clear()
        answer = await suite.chat()
        assert answer.status_code == 504
        await wait_until(suite.decode.cancelled.is_set)
        assert 0 < suite.decode.submits[0].timeout_ms <= 1000 * timeout_s


async def test_a_draining_worker_gets_nothing_new():
    async with open_suite(decodes=2) as suite:
        suite.workers["decode0"].worker.load.draining = True
        link = suite.gateway.pool.find(suite.workers["decode0"].address)
        await wait_until(lambda: not link.serving)
        for _ in range(4):
            assert (await suite.chat()).status_code == 200
        assert [len(decode.submits) for decode in suite.decodes] == [0, 4]


async def test_a_burst_spreads_over_the_decode_workers():
    async with open_suite(decodes=2) as suite:
        await asyncio.gather(*(suite.chat() for _ in range(20)))
        assert all(len(decode.submits) >= 5 for decode in suite.decodes)


async def test_two_hundred_streams_at_once_all_finish_with_their_text(suite):
    suite.say("Thinking hard.</think>" + "All work and no play. " * 4)
    suite.decode.step_s = 0.002
    streams = await asyncio.gather(*(suite.stream() for _ in range(200)))
    assert {joined(chunks, "content") for chunks in streams} == {"All work and no play. " * 4}
    assert len({chunks[0]["id"] for chunks in streams}) == 200
    assert suite.gateway.pool.decode.workers[0].session.active == 0


async def drains(channel):
    """Whether a port's health says so."""
    request = health_pb2.HealthCheckRequest(service="draining")
    try:
        answer = await health_pb2_grpc.HealthStub(channel).Check(request)
    except grpc.aio.AioRpcError:
        return None  # not known yet
    return answer.status == health_pb2.HealthCheckResponse.SERVING


async def serves_on(channel):
    return await drains(channel) is False


async def test_shutting_down_lets_what_runs_finish():
    async with open_suite(grace_seconds=10.0) as suite:
        for channel in (suite.channel, suite.operator):
            await wait_until(functools.partial(serves_on, channel))
        suite.decode.admit.clear()
        running = asyncio.create_task(suite.chat())
        await wait_until(lambda: suite.decode.submits)
        stopping = asyncio.create_task(suite.gateway.stop())
        await let_tasks_run()
        assert (await suite.chat()).status_code == 503
        for path in ("/health", "/ready"):
            health = await suite.http.get(path)
            assert (health.status_code, health.json()["status"]) == (503, "stopping")
        for channel in (suite.channel, suite.operator):
            await wait_until(functools.partial(drains, channel))
        suite.decode.admit.set()
        assert (await running).status_code == 200
        await stopping
