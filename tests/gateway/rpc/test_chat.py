"""ChatService: the same pipeline behind the typed door."""

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from perigee.v1 import chat_pb2, chat_pb2_grpc, sampling_pb2
from tests.gateway.pictures import data_url, picture
from tests.gateway.suite import joined, open_suite, wait_until
from tests.support.waiting import scaled


def text(value):
    return chat_pb2.ContentPart(text=value)


def request(**fields):
    fields.setdefault("messages", [chat_pb2.Message(role="user", content=[text("Hi")])])
    return chat_pb2.ChatRequest(**fields)


@pytest.fixture
def chat(suite):
    return chat_pb2_grpc.ChatServiceStub(suite.channel)


async def test_every_door_gives_the_same_text(suite, chat):
    suite.say("Hmm, 日本 🙂.</think>Grüße 🙃, done. END not seen")
    suite.decode.tokens_per_delta = 3
    whole = (await suite.chat(stop=["END"], logprobs=True)).json()
    chunks = await suite.stream(stop=["END"])
    asked = request(sampling=sampling_pb2.SamplingParams(stop=["END"], logprobs=True))
    answer = await chat.Complete(asked)
    pieces = [piece async for piece in chat.Stream(asked)]
    deltas = [delta for piece in pieces for delta in piece.deltas]
    message = whole["choices"][0]["message"]
    assert message["content"] == "Grüße 🙃, done. "
    assert joined(chunks, "content") == message["content"]
    assert answer.choices[0].content == message["content"]
    assert "".join(delta.content for delta in deltas) == message["content"]
    assert joined(chunks, "reasoning_content") == message["reasoning_content"] == "Hmm, 日本 🙂."
    assert answer.choices[0].reasoning_content == message["reasoning_content"]
    assert "".join(delta.reasoning_content for delta in deltas) == message["reasoning_content"]
    assert answer.usage == pieces[-1].usage
    assert answer.usage.completion_tokens == whole["usage"]["completion_tokens"]
    tokens = [entry["token"] for entry in whole["choices"][0]["logprobs"]["content"]]
    assert [entry.sampled.token for entry in answer.choices[0].logprobs] == tokens
    assert [entry.sampled.token for delta in deltas for entry in delta.logprobs] == tokens
    prompts = [list(submit.prompt_token_ids) for submit in suite.decode.submits]
    assert all(prompt == prompts[0] for prompt in prompts)


async def test_a_whole_answer_is_complete(suite, chat):
    answer = await chat.Complete(request(model="kimi-alias"))
    assert answer.model == "kimi-alias"
    assert answer.id.startswith("chatcmpl-")
    assert answer.created > 0
    assert answer.choices[0].finish_reason == sampling_pb2.FINISH_REASON_STOP


async def test_the_last_chunk_alone_has_usage_and_no_delta(suite, chat):
    pieces = [piece async for piece in chat.Stream(request())]
    assert not pieces[-1].deltas
    assert pieces[-1].usage.prompt_tokens > 0
    assert not any(piece.HasField("usage") for piece in pieces[:-1])


async def test_an_image_comes_as_bytes_or_as_a_url(suite, chat):
    data = picture()
    images = [chat_pb2.Image(data=data), chat_pb2.Image(url=data_url(data))]
    content = [chat_pb2.ContentPart(image=image) for image in images]
    await chat.Complete(request(messages=[chat_pb2.Message(role="user", content=content)]))
    media = suite.decode.submits[0].media
    assert media[0].content_hash == media[1].content_hash
    assert len(suite.vision.encoded) == 1


async def test_the_priority_reaches_the_worker(suite, chat):
    await chat.Complete(request(priority=7))
    assert suite.decode.submits[0].priority == 7


async def test_thinking_can_be_turned_off(suite, chat):
    suite.say("Plain.")
    answer = await chat.Complete(request(thinking=False))
    assert (answer.choices[0].content, answer.choices[0].reasoning_content) == ("Plain.", "")
    assert suite.decode.submits[0].sampling.temperature == pytest.approx(0.6)


BAD = [
    (request(model="nobody"), grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", "model"),
    (chat_pb2.ChatRequest(), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "messages"),
    (request(messages=[chat_pb2.Message(content=[text("x")])]), grpc.StatusCode.INVALID_ARGUMENT,
     "INVALID_REQUEST", "messages[0].role"),
    (request(messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart()])]),
     grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "messages[0].content[0]"),
    (request(messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(
        image=chat_pb2.Image(data=b"no image"))])]),
     grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "messages[0].content[0].image.data"),
    (request(messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(
        image=chat_pb2.Image(url="http://example.org/a.png"))])]),
     grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_VALUE", "messages[0].content[0].image.url"),
    (request(sampling=sampling_pb2.SamplingParams(temperature=float("nan"))),
     grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "sampling.temperature"),
    (request(tools_json="{"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "tools_json"),
    (request(priority=-1001), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "priority"),
    (request(cache_salt="x" * 257), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", "cache_salt"),
]  # fmt: skip


async def test_a_wrong_request_names_its_field_in_the_status_details(suite, chat):
    for wrong, code, reason, field in BAD:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await chat.Complete(wrong)
        assert caught.value.code() == code, wrong
        details = {
            detail.TypeName(): detail for detail in rpc_status.from_call(FromAio(caught.value)).details
        }
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        details["google.rpc.ErrorInfo"].Unpack(info)
        details["google.rpc.BadRequest"].Unpack(bad)
        assert (info.domain, info.reason) == ("perigee", reason)
        assert bad.field_violations[0].field == field
    assert not suite.decode.submits


class FromAio:
    """grpc_status reads synchronous calls; an aio error has the same parts."""

    def __init__(self, error):
        self.code, self.details = error.code, error.details
        self.trailing_metadata = lambda: tuple(error.trailing_metadata())


@pytest.mark.parametrize("phase", ["queue", "tokens"])
async def test_cancelling_the_call_stops_the_worker(suite, chat, phase):
    suite.say("word " * 2000)
    suite.decode.step_s = 0.01
    if phase == "queue":
        suite.decode.admit.clear()
    call = chat.Stream(request())
    reading = asyncio.create_task(anext(aiter(call)))
    await wait_until(lambda: suite.decode.submits and (phase == "queue" or suite.decode.sent > 2))
    call.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await wait_until(suite.decode.cancelled.is_set)
    await wait_until(lambda: suite.gateway.pool.decode.workers[0].session.active == 0)


async def test_cancelling_while_an_image_is_encoded_stops_the_encoder(suite, chat):
    suite.vision.release.clear()
    part = chat_pb2.ContentPart(image=chat_pb2.Image(data=picture()))
    call = chat.Complete(request(messages=[chat_pb2.Message(role="user", content=[part])]))
    waiting = asyncio.ensure_future(call)
    await wait_until(suite.vision.started.is_set)
    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await wait_until(suite.vision.cancelled.is_set)
    assert not suite.decode.submits


async def test_the_caller_s_deadline_reaches_the_worker(suite, chat):
    suite.decode.admit.clear()
    timeout_s = scaled(0.5)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat.Complete(request(), timeout=timeout_s)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    rounded_up = 1.02 * 1000 * timeout_s  # gRPC writes a deadline with few digits
    assert 0 < suite.decode.submits[0].timeout_ms <= rounded_up
    await wait_until(suite.decode.cancelled.is_set)


async def test_past_reasoning_is_kept_where_the_model_offers_it():
    past = [text("Hello!")]
    messages = [
        chat_pb2.Message(role="user", content=[text("Hi")]),
        chat_pb2.Message(role="assistant", content=past, reasoning_content="a greeting"),
        chat_pb2.Message(role="user", content=[text("And?")]),
    ]
    for profile, preserve, kept in (
        ("k2.6", None, False),
        ("k2.6", True, True),
        ("k2.7-code", None, True),
        ("k2.5", False, False),
    ):
        async with open_suite(model_profile=profile) as opened:
            stub = chat_pb2_grpc.ChatServiceStub(opened.channel)
            await stub.Complete(request(messages=messages, preserve_thinking=preserve))
            prompt = opened.tokenizer.decode(list(opened.decode.submits[-1].prompt_token_ids))
            assert f"<think>{'a greeting' if kept else ''}</think>Hello!" in prompt, (profile, preserve)


async def test_a_mode_that_the_model_lacks_is_refused_by_its_field():
    for profile, fields, named in (
        ("k2.5", {"preserve_thinking": True}, "preserve_thinking"),
        ("k2.6", {"preserve_thinking": True, "thinking": False}, "preserve_thinking"),
        ("k2.7-code", {"preserve_thinking": False}, "preserve_thinking"),
        ("k2.7-code", {"thinking": False}, "thinking"),
    ):
        async with open_suite(model_profile=profile) as opened:
            stub = chat_pb2_grpc.ChatServiceStub(opened.channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Complete(request(**fields))
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert caught.value.details().startswith(f"{named}")
