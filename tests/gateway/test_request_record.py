"""A request can be named, and one line in the log says what became of it."""

import asyncio

import grpc
import pytest
import structlog

from perigee.v1 import chat_pb2, chat_pb2_grpc, generation_pb2, generation_pb2_grpc
from tests.gateway.pictures import image_part, picture
from tests.gateway.suite import open_suite, wait_until
from tests.gateway.tools import TOOLS, TWO_CALLS

SECRET = "Schnabeltier"


@pytest.fixture
def lines():
    """All that is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured


async def line_of(lines, name):
    """The only line of the request that has this name."""
    await wait_until(lambda: any(line.get("request_id") == name for line in lines))
    [line] = [each for each in lines if each["event"] == "request" and each["request_id"] == name]
    assert SECRET not in str(lines)
    assert line["log_level"] == "info"
    return line


def asked(name="mine"):
    return {"X-Request-Id": name}


async def post(suite, path, body, name="mine"):
    return await suite.http.post(path, json=body, headers=asked(name))


def chat(**fields):
    return {"messages": [{"role": "user", "content": SECRET}], **fields}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_line_of_a_chat_has_ids_tokens_times_workers_and_finish(suite, lines, stream):
    suite.say(f"{SECRET}</think>{SECRET}{TWO_CALLS}")
    suite.decode.cached_tokens = 3
    suite.decode.prefill_address = suite.workers["prefill"].address
    answer = await post(suite, "/v1/chat/completions", chat(stream=stream, n=2, tools=TOOLS))
    assert answer.headers["x-request-id"] == "mine"
    line = await line_of(lines, "mine")
    [submit] = suite.decode.submits
    assert line["completion_id"] == submit.request_id
    assert submit.request_id in answer.text
    assert (line["door"], line["route"], line["status"]) == ("rest", "/v1/chat/completions", 200)
    assert (line["model"], line["finish"]) == ("kimi", "tool_calls:2")
    assert line["decode"] == suite.workers["decode0"].address
    assert line["prefill"] == suite.workers["prefill"].address
    assert line["prompt_tokens"] == len(submit.prompt_token_ids)
    assert line["cached_tokens"] == 3
    assert line["completion_tokens"] > 10
    assert 0 <= line["queue_s"] <= line["first_token_s"] <= line["total_s"]
    assert line["render_s"] >= 0
    assert not {"reason", "encode_s", "vision", "failovers", "prompts"} & set(line)


async def test_the_vision_worker_and_its_time_are_named(suite, lines):
    content = [image_part(picture()), {"type": "text", "text": SECRET}]
    await post(suite, "/v1/chat/completions", {"messages": [{"role": "user", "content": content}]})
    line = await line_of(lines, "mine")
    assert line["vision"] == suite.workers["vision"].address
    assert 0 < line["encode_s"] <= line["total_s"]


async def test_all_prompts_of_a_batch_have_one_line(suite, lines):
    prompts = [SECRET] * 20
    answer = await post(suite, "/v1/completions", {"prompt": prompts, "max_tokens": 2})
    line = await line_of(lines, "mine")
    assert (line["prompts"], line["finish"]) == (20, "length:20")
    assert line["completion_tokens"] == answer.json()["usage"]["completion_tokens"] == 40
    named = line["completion_id"].split(",")
    assert named[0] == answer.json()["id"]
    assert len(named) == 8
    assert len([each for each in lines if each["event"] == "request"]) == 1


async def test_a_worker_that_dies_and_the_one_that_goes_on_are_both_named(lines):
    async with open_suite(decodes=2) as suite:
        suite.say("word " * 50)
        for decode in suite.decodes:
            decode.fail_after, decode.deaths = 10, 1
        await post(suite, "/v1/chat/completions", chat())
        line = await line_of(lines, "mine")
        assert line["failovers"] >= 1
        assert set(line["decode"].split(",")) == {suite.workers[f"decode{index}"].address for index in (0, 1)}


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/v1/chat/completions", chat(temperature=9), 400, "INVALID_REQUEST"),
        ("/v1/chat/completions", {"messages": SECRET}, 400, "INVALID_REQUEST"),
        ("/v1/chat/completions", chat(model=SECRET), 404, "MODEL_NOT_FOUND"),
        ("/generate", {"text": f"{SECRET} " * 20_000}, 400, "CONTEXT_LENGTH_EXCEEDED"),
    ],
)  # fmt: skip
async def test_a_refused_request_is_named_and_its_line_says_why(suite, lines, path, body, status, reason):
    answer = await post(suite, path, body)
    assert (answer.status_code, answer.headers["x-request-id"]) == (status, "mine")
    line = await line_of(lines, "mine")
    assert (line["status"], line["reason"]) == (status, reason)


async def test_requests_beyond_the_limit_and_without_workers_have_their_line(lines):
    async with open_suite(max_concurrent_requests=1, worker_wait_seconds=0.0) as suite:
        suite.decode.admit.clear()
        first = asyncio.create_task(post(suite, "/v1/chat/completions", chat(), "first"))
        await wait_until(lambda: suite.decode.submits)
        assert (await post(suite, "/v1/chat/completions", chat(), "second")).status_code == 429
        line = await line_of(lines, "second")
        assert (line["status"], line["reason"]) == (429, "OVERLOADED")
        first.cancel()
        line = await line_of(lines, "first")
        assert line["reason"] == "CANCELLED"
        await suite.workers["decode0"].stop()
        await wait_until(suite.gateway.pool.missing_roles)
        assert (await post(suite, "/v1/chat/completions", chat(), "third")).status_code == 503
        assert (await line_of(lines, "third"))["reason"] == "UNAVAILABLE"


async def test_a_stream_that_breaks_says_why(suite, lines):
    suite.say("x" * 200)
    suite.decode.fail_after = 3
    await post(suite, "/v1/chat/completions", chat(stream=True))
    line = await line_of(lines, "mine")
    assert line["status"] == 200
    assert line["reason"] in ("WORKER_LOST", "UNAVAILABLE")
    assert line["completion_tokens"] == 3


@pytest.mark.parametrize("name", ["", "a b", "x" * 129, "ä", "a\tb", "a;b", '"'])
async def test_a_name_that_could_not_stand_in_a_log_is_replaced(suite, lines, name):
    answer = await suite.http.post(
        "/v1/chat/completions", json=chat(), headers={"X-Request-Id": name.encode()}
    )
    given = answer.headers["x-request-id"]
    assert given.startswith("req-")
    await line_of(lines, given)
    assert (await suite.http.get("/health")).headers["x-request-id"].startswith("req-")


async def test_every_answer_has_the_name_and_only_work_has_a_line(suite, lines):
    name = "x" * 128
    for path in ("/health", "/v1/models", "/metrics", "/nothing", "/openapi.json"):
        answer = await suite.http.get(path, headers=asked(name))
        assert answer.headers.get_list("x-request-id") == [name], path
    assert not [line for line in lines if line["event"] == "request"]
    answer = await post(suite, "/tokenize", {"prompt": SECRET}, "counted")
    assert answer.headers["x-request-id"] == "counted"
    assert (await line_of(lines, "counted"))["route"] == "/tokenize"


async def initial(call):
    return names(await call.initial_metadata())


async def trailing(call):
    return names(await call.trailing_metadata())


def names(metadata):
    return [value for key, value in metadata if key == "x-request-id"]


async def test_over_grpc_it_is_metadata(suite, lines):
    stub = chat_pb2_grpc.ChatServiceStub(suite.channel)
    message = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text=SECRET)])
    request = chat_pb2.ChatRequest(messages=[message])
    call = stub.Stream(request, metadata=(("x-request-id", "mine"),))
    assert [chunk async for chunk in call]
    assert await initial(call) == await trailing(call) == ["mine"]
    line = await line_of(lines, "mine")
    assert (line["door"], line["route"], line["status"]) == ("grpc", "ChatService/Stream", "OK")
    assert (line["finish"], line["model"]) == ("stop:1", "kimi")
    call = stub.Complete(request, metadata=(("x-request-id", "not mine"),))
    await call
    [name] = await initial(call)
    assert name.startswith("req-")
    assert (await line_of(lines, name))["route"] == "ChatService/Complete"


async def test_a_failed_or_cancelled_call_is_named_too(suite, lines):
    stub = generation_pb2_grpc.GenerationServiceStub(suite.channel)
    call = stub.Generate(generation_pb2.GenerateRequest(), metadata=(("x-request-id", "empty"),))
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    assert (await initial(call), await trailing(call)) == ([], ["empty"])
    line = await line_of(lines, "empty")
    assert (line["status"], line["reason"]) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    suite.decode.admit.clear()
    request = generation_pb2.GenerateRequest(text=SECRET)
    call = stub.StreamGenerate(request, metadata=(("x-request-id", "left"),))
    reading = asyncio.create_task(anext(aiter(call)))
    await wait_until(lambda: suite.decode.submits)
    call.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    line = await line_of(lines, "left")
    assert (line["status"], line["completion_tokens"]) == ("CANCELLED", 0)


async def test_a_call_refused_before_it_is_a_request_has_its_line_too(lines):
    async with open_suite(body_timeout_seconds=0.2) as suite:

        async def refused(messages, name):
            metadata = (("x-request-id", name),)
            method = suite.channel.stream_unary("/perigee.v1.ChatService/Complete", None, None)
            call = method(messages, metadata=metadata)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await call
            assert (await initial(call), await trailing(call)) == ([], [name])
            line = await line_of(lines, name)
            assert (line["door"], line["route"]) == ("grpc", "ChatService/Complete")
            assert line["status"] == raised.value.code().name
            return line["status"], line["reason"]

        async def never():
            await asyncio.Event().wait()
            yield b""

        assert await refused([b"\x12\x00" * 10_000], "many") == ("INVALID_ARGUMENT", "INVALID_REQUEST")
        assert await refused([b"\x12\xff"], "broken") == ("INVALID_ARGUMENT", "INVALID_REQUEST")
        assert await refused([], "none") == ("INVALID_ARGUMENT", "INVALID_REQUEST")
        assert await refused(never(), "late") == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
        metrics = (await suite.http.get("/metrics")).text
        assert 'requests_total{door="grpc",outcome="invalid"} 3.0' in metrics
