"""What is sent to an OpenAI-compatible endpoint, and read from its answers."""

from __future__ import annotations

import pytest

from services.cli.bench.targets.http import EventReader, HttpTarget
from services.cli.bench.targets.target import AskOptions, parse_address
from services.cli.bench.targets.timeline import Timeline
from services.cli.bench.workload.ask import Ask
from services.common.errors import ConfigError, Unavailable
from tests.cli.bench.fake_openai import DONE, delta_event, event, text_event, usage_event

IDS = Ask(3, 4, token_ids=[10, 11, 12, 13])
CHAT = Ask(2, 4, messages=[{"role": "user", "content": "hi"}], tools=[{"type": "function"}])


def target(endpoint, **options):
    return HttpTarget(parse_address(endpoint.url), AskOptions(**options))


async def test_token_ids_are_continued_to_the_full_length(endpoint):
    timeline = await target(endpoint, model="m", key="secret", extra={"top_k": 1}).ask(IDS)
    ((path, body, headers),) = endpoint.requests
    assert path == "/v1/completions"
    assert (body["model"], body["prompt"], body["max_tokens"]) == ("m", [10, 11, 12, 13], 3)
    assert (body["stream"], body["temperature"], body["top_k"]) == (True, 0.0, 1)
    assert (body["ignore_eos"], body["skip_special_tokens"]) == (True, False)
    assert headers["Authorization"] == "Bearer secret"
    assert (timeline.error, len(timeline.texts), timeline.answer.finish) == ("", 3, "length")
    assert (timeline.prompt_tokens, timeline.output_tokens, timeline.cached_tokens) == (4, 3, 0)
    assert timeline.start < timeline.texts[0] <= timeline.texts[-1] <= timeline.end


async def test_a_model_that_may_end_early_gets_fields_of_openai_alone(endpoint):
    await target(endpoint, full_length=False).ask(IDS)
    ((_, body, _),) = endpoint.requests
    assert set(body) == {
        "model", "temperature", "stream", "stream_options", "prompt", "max_tokens",
    }  # fmt: skip


async def test_a_chat_s_reasoning_and_calls_are_text_too(endpoint):
    parts = [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]
    more = [{"index": 0, "function": {"arguments": "{}"}}]
    endpoint.script = lambda body: [
        delta_event(role="assistant", content=""),
        delta_event(reasoning_content="so"),
        delta_event(content="hm"),
        delta_event(tool_calls=parts),
        delta_event(tool_calls=more),
        delta_event("tool_calls"),
        usage_event(9, 7, cached=3),
        DONE,
    ]
    timeline = await target(endpoint).ask(CHAT)
    assert endpoint.requests[0][0] == "/v1/chat/completions"
    assert endpoint.requests[0][1]["tools"] == [{"type": "function"}]
    assert (timeline.error, len(timeline.texts)) == ("", 4)
    answer = timeline.answer
    assert (answer.reasoning, answer.content, answer.finish) == ("so", "hm", "tool_calls")
    assert answer.calls == [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert timeline.cached_tokens == 3


async def test_an_answer_is_read_however_the_network_cuts_it(endpoint):
    whole = text_event("a") + text_event("ß", "length") + usage_event(4, 2) + DONE
    endpoint.script = lambda body: [whole[at : at + 7] for at in range(0, len(whole), 7)]
    timeline = await target(endpoint).ask(IDS)
    assert (timeline.error, timeline.answer.content, timeline.output_tokens) == ("", "aß", 2)


async def test_an_answer_may_end_with_its_connection(endpoint):
    endpoint.chunked = False
    timeline = await target(endpoint).ask(IDS)
    assert (timeline.error, len(timeline.texts)) == ("", 3)


@pytest.mark.parametrize(
    ("pieces", "chunked", "said"),
    [
        ([text_event("a"), None], True, "the connection closed before the answer was whole"),
        ([text_event("a"), None], False, "the stream ended in the middle of the answer"),
        ([text_event("a")], True, "the stream ended in the middle of the answer"),
        ([], True, "the stream ended in the middle of the answer"),
        ([text_event("a"), event(error={"message": "worker lost"}), DONE], True, "worker lost"),
        ([b"data: [1]\n\n", DONE], True, "an event of an unknown form"),
        ([b"data: {\n\n", DONE], True, "truncated"),
        ([delta_event(tool_calls=[{"index": 10**9}]), DONE], True, "a tool call of the index 1000000000"),
    ],
)
async def test_an_answer_that_is_not_whole_has_failed(endpoint, pieces, chunked, said):
    endpoint.script, endpoint.chunked = lambda body: pieces, chunked
    timeline = await target(endpoint).ask(IDS)
    assert said in timeline.error
    assert timeline.end >= timeline.start


async def test_an_error_status_is_told_with_its_text(endpoint):
    endpoint.status, endpoint.script = 429, lambda body: [b'{"error": "too many"}']
    timeline = await target(endpoint).ask(IDS)
    assert timeline.error == 'HTTP status 429: {"error": "too many"}'
    assert timeline.texts == []


async def test_an_answer_that_takes_too_long_has_failed(endpoint):
    endpoint.script = lambda body: iter(lambda: text_event("a"), None)
    timeline = await target(endpoint, timeout_s=0.1).ask(IDS)
    assert timeline.error == "not whole after 0.1 s"
    assert timeline.texts


async def test_nobody_at_the_address_is_an_error_of_the_request(endpoint):
    gone = target(endpoint)
    endpoint.close()
    assert "onnect" in (await gone.ask(IDS)).error
    with pytest.raises(Unavailable, match=rf"^{endpoint.url}/v1/models: .*onnect.*; --target names another"):
        await gone.model()


async def test_the_first_model_listed_is_asked(endpoint):
    asked = target(endpoint)
    assert await asked.model() == "fake"
    await asked.ask(IDS)
    assert endpoint.requests[0][1]["model"] == "fake"


async def test_a_list_without_models_is_refused(endpoint):
    endpoint.models = {"data": []}
    with pytest.raises(Unavailable, match="--model"):
        await target(endpoint).model()


def test_the_time_of_an_event_is_that_of_the_network_not_of_its_parsing():
    reader = EventReader(Timeline(start=5.0))
    reader.read(text_event("a").strip(), 6.0)
    reader.read(b"", 6.5)
    reader.read(text_event("b", "stop").strip(), 8.0)
    reader.read(b"data: [DONE]", 9.0)
    reader.check_whole()
    assert (reader.timeline.texts, reader.timeline.end) == ([6.0, 8.0], 9.0)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://h:1/v1", ("http", "h", 1, "")),
        ("https://h/api/v1/", ("https", "h", 443, "/api")),
        ("grpc://h", ("grpc", "h", 50050, "")),
        ("grpcs://h:2", ("grpcs", "h", 2, "")),
        ("http://[::1]:3", ("http", "::1", 3, "")),
    ],
)
def test_an_address_is_a_url(url, said):
    address = parse_address(url)
    assert (address.scheme, address.host, address.port, address.path) == said
    assert address.authority in ("h:1", "h:443", "h:50050", "h:2", "[::1]:3")
    assert (address.tls, address.grpc) == (url.partition(":")[0].endswith("s"), url.startswith("grpc"))


@pytest.mark.parametrize(
    "url", ["", "h:1", "ftp://h", "http://", "http://h:x", "http://h?a=1", "grpc://h/path"]
)
def test_another_address_is_refused(url):
    with pytest.raises(ConfigError, match="--target"):
        parse_address(url)
