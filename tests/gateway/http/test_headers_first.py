"""A stream's headers go out once no worker refuses the request, not only with its first token."""

import asyncio
import contextlib
import json

import grpc
import openai
import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc, decode_pb2, generation_pb2, generation_pb2_grpc
from tests.gateway.pictures import image_part, picture
from tests.gateway.suite import chat_body, joined, open_suite, parse_events, wait_until
from tests.support.waiting import let_tasks_run, scaled

CHATS = "/v1/chat/completions"
STREAMS = {
    CHATS: chat_body(stream=True),
    "/v1/completions": {"prompt": ["x", "y"], "stream": True, "max_tokens": 5},
    "/generate": {"text": "x", "stream": True, "sampling_params": {"max_new_tokens": 5}},
}
every_stream = pytest.mark.parametrize("path", STREAMS)


class Refusal:
    """What a decode worker answers in place of tokens."""

    GRAMMAR = decode_pb2.RequestError(
        code=grpc.StatusCode.INVALID_ARGUMENT.value[0], reason="INVALID_ARGUMENT", message="does not compile"
    )
    FULL = decode_pb2.RequestError(
        code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], reason="OVERLOADED", message="full",
        retry_after_ms=2000,
    )  # fmt: skip


@contextlib.asynccontextmanager
async def begun(suite, path, **more):
    """A streamed answer whose headers have come."""
    async with suite.http.stream("POST", path, json={**STREAMS[path], **more}) as answer:
        yield answer


@every_stream
async def test_headers_come_before_the_first_token_and_nothing_else_does(suite, path):
    suite.decode.admit.clear()
    async with asyncio.timeout(20), begun(suite, path) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert (suite.decode.sent, answer.num_bytes_downloaded) == (0, 0)
        suite.decode.admit.set()
        text = (await answer.aread()).decode()
    assert text.endswith("data: [DONE]\n\n")
    assert len(parse_events(text)) > 1


@every_stream
@pytest.mark.parametrize(("refusal", "status"), [(Refusal.GRAMMAR, 400), (Refusal.FULL, 429)])
async def test_what_a_worker_refuses_is_a_status_however_long_it_takes(suite, path, refusal, status):
    suite.decode.admit.clear()
    suite.decode.refuse = refusal
    asking = asyncio.create_task(suite.http.post(path, json=STREAMS[path]))
    await wait_until(lambda: suite.decode.submits)
    await let_tasks_run()
    assert not asking.done()
    suite.decode.admit.set()
    answer = await asking
    assert answer.status_code == status
    assert answer.json()["error"]["message"].endswith(refusal.message)
    assert ("retry-after" in answer.headers) == (status == 429)


@every_stream
async def test_a_worker_that_is_not_expected_back_is_a_status(path):
    async with open_suite(worker_wait_seconds=0.0) as suite:
        await suite.workers["decode0"].stop()
        await wait_until(lambda: suite.gateway.pool.missing_roles())
        answer = await suite.http.post(path, json=STREAMS[path])
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")


@every_stream
async def test_what_the_gateway_refuses_is_a_status(path):
    async with open_suite(max_concurrent_requests=2) as suite:
        wrong = await suite.http.post(path, json={**STREAMS[path], "model": "no"})
        assert wrong.status_code == 404
        suite.decode.admit.clear()
        async with begun(suite, CHATS), begun(suite, CHATS):
            assert (await suite.http.post(path, json=STREAMS[path])).status_code == 429


@every_stream
async def test_a_failure_after_the_headers_is_an_error_event_and_no_finish(path):
    async with open_suite(max_failovers=0) as suite:
        suite.decode.admit.clear()
        async with asyncio.timeout(20), begun(suite, path) as answer:
            suite.decode.die()
            text = (await answer.aread()).decode()
    [event] = parse_events(text)
    assert event["error"]["code"] == "unavailable"
    assert "[DONE]" not in text


@every_stream
async def test_a_worker_that_dies_after_the_headers_is_replaced_and_the_answer_is_whole(path):
    async with open_suite(decodes=2) as suite:
        for decode in suite.decodes:
            decode.admit.clear()
        async with asyncio.timeout(20), begun(suite, path) as answer:
            [first] = [decode for decode in suite.decodes if decode.submits][:1]
            for decode in suite.decodes:
                decode.admit.set()
                if decode is first:
                    decode.die()
            text = (await answer.aread()).decode()
    assert text.endswith("data: [DONE]\n\n")
    assert not any("error" in event for event in parse_events(text))


@every_stream
async def test_a_silent_worker_delays_the_headers_no_longer_than_the_setting(path):
    async with open_suite(sse_keep_alive_seconds=scaled(0.3)) as suite:
        suite.decode.accepts = False
        suite.decode.admit.clear()
        async with asyncio.timeout(20), begun(suite, path) as answer:
            assert answer.status_code == 200
            suite.decode.refuse = Refusal.FULL
            suite.decode.admit.set()
            [event] = parse_events((await answer.aread()).decode())
        assert event["error"]["code"] == "overloaded"


PICTURE = chat_body(
    stream=True,
    messages=[{"role": "user", "content": [image_part(picture()), {"type": "text", "text": "?"}]}],
)


async def test_an_image_delays_the_headers_no_longer_than_the_setting_and_the_answer_follows():
    async with open_suite(sse_keep_alive="comment", sse_keep_alive_seconds=scaled(0.3)) as suite:
        suite.vision.release.clear()
        async with asyncio.timeout(20), suite.http.stream("POST", CHATS, json=PICTURE) as answer:
            assert (answer.status_code, suite.decode.submits) == (200, [])
            lines = answer.aiter_lines()
            assert await anext(lines) == ": keep-alive"
            suite.vision.release.set()
            rest = [json.loads(line[6:]) async for line in lines if line.startswith("data: {")]
    assert joined(rest, "content") == "Hello!"


async def test_an_image_that_cannot_be_encoded_is_an_error_event_after_the_headers():
    async with open_suite(sse_keep_alive_seconds=scaled(0.3)) as suite:
        suite.vision.release.clear()
        suite.vision.extra_rows = 1
        async with asyncio.timeout(20), suite.http.stream("POST", CHATS, json=PICTURE) as answer:
            assert answer.status_code == 200
            suite.vision.release.set()
            [event] = parse_events((await answer.aread()).decode())
    assert event["error"]["code"] == "incompatible"


async def test_an_image_that_cannot_be_encoded_in_time_is_a_status(suite):
    """A guard: encoding is quick."""
    suite.vision.extra_rows = 1
    answer = await suite.http.post(CHATS, json=PICTURE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "incompatible")


async def test_a_client_that_leaves_while_its_image_is_encoded_ends_the_encoding():
    async with open_suite(sse_keep_alive_seconds=scaled(0.3)) as suite:
        suite.vision.release.clear()
        async with asyncio.timeout(20), suite.http.stream("POST", CHATS, json=PICTURE):
            pass
        await wait_until(suite.vision.cancelled.is_set)
        assert not suite.decode.submits


async def test_a_client_that_leaves_after_the_headers_cancels_the_work(suite):
    suite.decode.admit.clear()
    async with begun(suite, CHATS):
        pass
    await wait_until(suite.decode.cancelled.is_set)


TEXTS = ("content", "reasoning_content", "tool_calls")


def is_empty(path, event):
    """Whether an event of a route has nothing new."""
    if path == "/generate":
        return event["text"] == "" and event["meta_info"]["finish_reason"] is None
    [choice] = event["choices"]
    return choice["finish_reason"] is None and (
        choice["text"] == "" if "text" in choice else not any(choice["delta"].get(key) for key in TEXTS)
    )


@every_stream
async def test_chunks_without_text_keep_a_stream_alive(path):
    async with open_suite(sse_keep_alive="chunk", sse_keep_alive_seconds=0.1) as suite:
        suite.decode.admit.clear()
        async with asyncio.timeout(30), begun(suite, path) as answer:
            lines = answer.aiter_lines()
            for _ in range(3):
                event, end = await anext(lines), await anext(lines)
                assert is_empty(path, json.loads(event.removeprefix("data: ")))
                assert end == ""
            suite.decode.admit.set()
            rest = [line async for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert not [line for line in rest if not line.startswith("data: ")]


@pytest.mark.parametrize(
    ("path", "body"),
    [(CHATS, chat_body(n=2)), ("/v1/completions", {"prompt": ["x", "y"], "n": 2, "max_tokens": 50})],
)
async def test_no_chunk_of_a_choice_comes_behind_its_end(path, body):
    async with open_suite(sse_keep_alive="chunk", sse_keep_alive_seconds=0.05) as suite:
        end = min(suite.tokenizer.stop_ids)
        words = suite.tokenizer.encode("one two three four")
        suite.decode.script = lambda submit, choice: [*words, end] if choice else [end]
        suite.decode.step_s = 0.1
        answer = await suite.http.post(path, json={**body, "stream": True})
    events = parse_events(answer.text)
    indices = [event["choices"][0]["index"] for event in events]
    for place, event in enumerate(events):
        [choice] = event["choices"]
        assert choice["finish_reason"] is None or choice["index"] not in indices[place + 1 :]
    assert any(is_empty(path, event) and event["choices"][0]["index"] for event in events)


@pytest.mark.parametrize("signs", [0, 1, 2, 5])
async def test_the_role_is_in_the_first_chunk_of_each_choice_and_in_no_other(signs):
    """However many chunks keep the stream alive before the first token."""
    seconds = 0.1 if signs else 60.0
    async with open_suite(sse_keep_alive="chunk", sse_keep_alive_seconds=seconds) as suite:
        suite.decode.admit.clear()
        async with asyncio.timeout(30), begun(suite, CHATS, n=2) as answer:
            lines = (line async for line in answer.aiter_lines() if line.startswith("data: {"))
            early = [await anext(lines) for _ in range(signs)]
            suite.decode.admit.set()
            events = [json.loads(line[6:]) for line in [*early, *[line async for line in lines]]]
    choices = [choice for event in events for choice in event["choices"]]
    for index in (0, 1):
        roles = ["role" in choice["delta"] for choice in choices if choice["index"] == index]
        assert roles[0]
        assert not any(roles[1:])


@every_stream
async def test_comments_keep_a_stream_alive_and_no_line_is_an_id(path):
    async with open_suite(sse_keep_alive="comment", sse_keep_alive_seconds=0.1) as suite:
        suite.decode.admit.clear()
        async with asyncio.timeout(30), begun(suite, path) as answer:
            lines = answer.aiter_lines()
            for _ in range(3):
                assert (await anext(lines), await anext(lines)) == (": keep-alive", "")
            suite.decode.admit.set()
            rest = [line async for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert all(line.startswith(("data: ", ":")) for line in rest)


@pytest.mark.parametrize("kind", ["none", "comment", "chunk"])
async def test_the_official_client_reads_a_stream_kept_alive(kind):
    async with open_suite(sse_keep_alive=kind, sse_keep_alive_seconds=0.05) as suite:
        suite.decode.step_s = 0.1
        base = f"http://127.0.0.1:{suite.gateway.http_port}/v1"
        async with openai.AsyncOpenAI(api_key="any", base_url=base, max_retries=0) as client:
            chunks = [
                chunk.model_dump()
                async for chunk in await client.chat.completions.create(
                    model="kimi", messages=[{"role": "user", "content": "Hi"}], stream=True
                )
            ]
    assert joined(chunks, "content") == "Hello!"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks if chunk["choices"]][-1] == "stop"


CHAT = chat_pb2.ChatRequest(
    messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])]
)


def grpc_streams(suite):
    """A call of either streaming rpc, the second made when the first has ended."""
    metadata = (("x-request-id", "mine"),)
    yield chat_pb2_grpc.ChatServiceStub(suite.channel).Stream(CHAT, metadata=metadata)
    texts = generation_pb2_grpc.GenerationServiceStub(suite.channel)
    yield texts.StreamGenerate(generation_pb2.GenerateRequest(text="x"), metadata=metadata)


async def test_over_grpc_the_initial_metadata_comes_before_the_first_token(suite):
    suite.decode.admit.clear()
    for call in grpc_streams(suite):
        initial = await asyncio.wait_for(call.initial_metadata(), 20)
        assert ("x-request-id", "mine") in list(initial)
        assert not call.done()
        call.cancel()


async def test_over_grpc_an_image_delays_the_initial_metadata_no_longer_than_the_setting():
    part = chat_pb2.ContentPart(image=chat_pb2.Image(data=picture()))
    asked = chat_pb2.ChatRequest(messages=[chat_pb2.Message(role="user", content=[part])])
    async with open_suite(sse_keep_alive_seconds=scaled(0.3)) as suite:
        suite.vision.release.clear()
        call = chat_pb2_grpc.ChatServiceStub(suite.channel).Stream(asked)
        await asyncio.wait_for(call.initial_metadata(), 20)
        assert not suite.decode.submits
        suite.vision.release.set()
        assert "".join([delta.content async for chunk in call for delta in chunk.deltas]) == "Hello!"


async def test_over_grpc_there_is_no_metadata_before_the_worker_has_accepted(suite):
    suite.decode.admit.clear()
    suite.decode.refuse = Refusal.FULL
    for number, call in enumerate(grpc_streams(suite)):
        waiting = asyncio.create_task(call.initial_metadata())
        await wait_until(lambda number=number: len(suite.decode.submits) > number)
        await let_tasks_run()
        assert not waiting.done()
        suite.decode.admit.set()
        assert await call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("x-request-id", "mine") not in list(await waiting)
        assert ("x-request-id", "mine") in list(await call.trailing_metadata())
        suite.decode.admit.clear()
