"""Every wrong request gets a 4xx, an OpenAI error object and the field's name; no worker sees it."""

import asyncio
import gzip
import json

import pytest

from tests.gateway.pictures import data_url, image_part, picture, video_part
from tests.gateway.suite import CONTEXT_LENGTH, chat_body, open_suite
from tests.support.videos import film

URL = "/v1/chat/completions"


def user(*content):
    return {"messages": [{"role": "user", "content": list(content)}]}


BAD_VALUES = [
    ({"model": "gpt-4"}, 404, "model", "model_not_found"),
    ({"messages": []}, 400, "messages", None),
    ({"messages": "hi"}, 400, "messages", None),
    ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "messages[0].role", None),
    ({"messages": [{"content": "x"}]}, 400, "messages[0].role", None),
    (user({"type": "text"}), 400, "messages[0].content[0].text", None),
    (user({"type": "smell", "text": "x"}), 400, "messages[0].content[0].type", None),
    (user({"type": "image_url"}), 400, "messages[0].content[0].image_url", None),
    (user({"type": "video_url"}), 400, "messages[0].content[0].video_url", None),
    (user({"type": "video_url", "video_url": "https://example.org/x.mp4"}), 400,
     "messages[0].content[0].video_url", "unsupported_value"),
    (user(image_part(b"no image")), 400, "messages[0].content[0].image_url.url", None),
    (user(image_part(picture(600, 600, "JPEG")[:-400])), 400, "messages[0].content[0].image_url.url", None),
    (user({"type": "image_url", "image_url": "https://example.org/x.png"}), 400,
     "messages[0].content[0].image_url", "unsupported_value"),
    ({"temperature": 3}, 400, "temperature", None),
    ({"temperature": "hot"}, 400, "temperature", None),
    ({"top_p": 0}, 400, "top_p", None),
    ({"n": 17}, 400, "n", None),
    ({"n": 0}, 400, "n", None),
    ({"max_tokens": -1}, 400, "max_tokens", None),
    ({"max_completion_tokens": -1}, 400, "max_completion_tokens", None),
    ({"max_tokens": 16.5}, 400, "max_tokens", None),
    ({"n": 1.5}, 400, "n", None),
    ({"seed": 1 << 70}, 400, "seed", None),
    ({"seed": 10**400}, 400, "seed", None),
    ({"top_k": 10**400}, 400, "top_k", None),
    ({"stop_token_ids": [10**400]}, 400, "stop_token_ids", None),
    ({"logit_bias": {"9" * 400: 1}}, 400, "logit_bias", None),
    ({"top_logprobs": 3}, 400, "top_logprobs", None),
    ({"logit_bias": {"word": 1}}, 400, "logit_bias", None),
    ({"stop": [""]}, 400, "stop", None),
    ({"cache_salt": "x" * 257}, 400, "cache_salt", None),
    ({"tool_choice": "required"}, 400, "tool_choice", None),
    ({"tool_choice": {"type": "function"}}, 400, "tool_choice", None),
    ({"tool_choice": "sometimes"}, 400, "tool_choice", None),
    ({"response_format": {"type": "xml"}}, 400, "response_format.type", "unsupported_value"),
    ({"response_format": {"type": "json_schema"}}, 400, "response_format.json_schema.schema", None),
    ({"regex": "a", "ebnf": 'root ::= "a"'}, 400, "ebnf", None),
    ({"regex": "(a"}, 400, "regex", None),
    ({"ebnf": "root: a"}, 400, "ebnf", None),
    ({"modalities": ["audio"]}, 400, "modalities", "unsupported_value"),
    ({"add_generation_prompt": False}, 400, "add_generation_prompt", "unsupported_value"),
    ({"store": True}, 400, "store", "unsupported_value"),
    ({"priority": 1001}, 400, "priority", None),
    ({"priority": 1 << 40}, 400, "priority", None),
    ({"priority": "high"}, 400, "priority", None),
    ({"lora_path": "tuned"}, 400, "lora_path", "unsupported_value"),
    ({"prompt_logprobs": 0, "stream": True}, 400, "prompt_logprobs", "unsupported_value"),
    ({"prompt_logprobs": -1}, 400, "prompt_logprobs", None),
    ({"prompt_logprobs": 21}, 400, "prompt_logprobs", None),
    ({"prompt_logprobs": "all"}, 400, "prompt_logprobs", None),
    ({"user": 5}, 400, "user", None),
    ({"thinking": {"type": "sometimes"}}, 400, "thinking.type", None),
    ({"reasoning_effort": "huge"}, 400, "reasoning_effort", None),
    ({"chat_template_kwargs": {"thinking": "no"}}, 400, "chat_template_kwargs.thinking", None),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options", "unsupported_value"),
]  # fmt: skip


async def test_a_wrong_value_is_refused_by_name(suite):
    for fields, status, param, code in BAD_VALUES:
        answer = await suite.http.post(URL, json=chat_body(**fields))
        assert answer.status_code == status, (fields, answer.text)
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["type"] == "invalid_request_error"
        assert (error["param"], error["code"]) == (param, code), fields
        assert error["message"]
    assert not suite.decode.submits


async def test_neutral_values_of_unsupported_fields_are_accepted(suite):
    body = chat_body(
        response_format={"type": "text"}, tool_choice="none", parallel_tool_calls=True, modalities=["text"],
        audio=None, best_of=1, echo=False, user="me", metadata={"a": "b"}, store=False, service_tier="auto",
        separate_reasoning=None, stream_reasoning=None, skip_special_tokens=True, unheard_of={"x": 1},
        priority=0, rid="r-1", lora_path=[None], return_hidden_states=False,
        spaces_between_special_tokens=True, stop_regex="",
        session_id="s", stream_interval=1, prompt_logprobs=None, truncation_side="left",
        add_special_tokens=False, custom_params={}, safety_identifier="u",
    )  # fmt: skip
    assert (await suite.http.post(URL, json=body)).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe", b'"text"'])
async def test_what_is_no_json_object_is_refused(suite, body):
    answer = await suite.http.post(URL, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] is None


@pytest.mark.parametrize("words", [1000, 200_000])
async def test_a_prompt_over_the_context_is_refused_with_the_numbers(words):
    async with open_suite(context_length=300) as suite:
        answer = await suite.chat(messages=[{"role": "user", "content": "word " * words}])
        error = answer.json()["error"]
        assert answer.status_code == 400
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
        assert error["message"].endswith("the context length is 300")
        assert not suite.decode.submits


async def test_a_prompt_that_cannot_fit_is_refused_before_it_is_encoded(suite):
    longest_token = 21
    for messages in (
        [{"role": "user", "content": "x" * longest_token * CONTEXT_LENGTH}],
        [{"role": "user"}] * (CONTEXT_LENGTH // 3 + 1),
    ):
        error = (await suite.chat(messages=messages)).json()["error"]
        assert (error["code"], error["param"]) == ("context_length_exceeded", "messages")
        assert "or more" in error["message"], messages[:1]


async def test_a_body_that_does_not_arrive_gives_its_place_free():
    async with open_suite(body_timeout_seconds=0.2, max_concurrent_requests=1) as suite:
        reader, writer = await asyncio.open_connection("127.0.0.1", suite.gateway.http_port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
        assert (await suite.chat()).status_code == 200


async def test_a_body_over_the_limit_is_refused_whether_its_length_is_announced_or_not():
    async with open_suite(max_body_bytes=4096) as suite:
        big = b'{"messages": "' + b"x" * 5000 + b'"}'

        async def chunks():
            yield big[:3000]
            yield big[3000:]

        for content in (big, chunks()):
            answer = await suite.http.post(URL, content=content)
            assert answer.status_code == 413
            assert answer.json()["error"]["type"] == "invalid_request_error"


ROUTES = {
    URL: {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/generate": {"text": "Hi"},
    "/tokenize": {"prompt": "Hi"},
    "/detokenize": {"tokens": [1]},
}


@pytest.mark.parametrize("path", ROUTES)
async def test_every_route_takes_a_gzip_body_and_names_what_it_takes_beside_another(suite, path):
    plain = json.dumps(ROUTES[path]).encode()
    for encoding, body in (("gzip", gzip.compress(plain)), ("identity", plain)):
        answer = await suite.http.post(path, content=body, headers={"content-encoding": encoding})
        assert answer.status_code == 200, answer.text
    answer = await suite.http.post(path, content=plain, headers={"content-encoding": "br"})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, identity")
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert "'br' is not supported; a body may be gzip or identity" in error["message"]


async def test_a_gzip_body_that_is_none_or_too_much_is_refused_and_the_connection_serves_on():
    async with open_suite(max_body_bytes=4096) as suite:
        for body, status in ((b"{}", 400), (gzip.compress(bytes(5000)), 413)):
            answer = await suite.http.post(URL, content=body, headers={"content-encoding": "gzip"})
            assert answer.status_code == status
        assert (await suite.chat()).status_code == 200


async def test_images_are_refused_where_no_encoder_is_configured():
    async with open_suite(vision=False) as suite:
        part = {"type": "image_url", "image_url": data_url(picture())}
        answer = await suite.chat(messages=[{"role": "user", "content": [part]}])
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "messages[0].content[0].image_url"
        assert (await suite.chat()).status_code == 200


async def test_too_many_or_too_large_images_are_refused():
    async with open_suite(max_images=1, max_image_bytes=2000, max_image_pixels=10_000) as suite:
        for parts, param in [
            ([picture(), picture()], "messages[0].content[1].image_url.url"),
            ([picture(101, 100)], "messages[0].content[0].image_url.url"),
            ([picture(90, 90, "BMP")], "messages[0].content[0].image_url.url"),
        ]:
            answer = await suite.http.post(URL, json=user(*map(image_part, parts)))
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == param


async def test_too_many_too_large_or_too_long_videos_are_refused():
    small = film()
    limits = {"max_videos": 1, "max_video_bytes": 20_000, "max_video_pixels": 96 * 64}
    async with open_suite(**limits, max_video_seconds=2.0, max_video_frames=30) as suite:
        for parts, param in [
            ([small, small], "messages[0].content[1].video_url.url"),
            ([film(width=112)], "messages[0].content[0].video_url.url"),
            ([film(num_frames=21)], "messages[0].content[0].video_url.url"),
            ([film(num_frames=31, fps=30)], "messages[0].content[0].video_url.url"),
            ([small + bytes(20_000)], "messages[0].content[0].video_url.url"),
            ([b"no video"], "messages[0].content[0].video_url.url"),
        ]:
            answer = await suite.http.post(URL, json=user(*map(video_part, parts)))
            assert answer.status_code == 400
            assert answer.json()["error"]["param"] == param
        assert (await suite.http.post(URL, json=user(video_part(small)))).status_code == 200


async def test_unknown_routes_and_methods_are_answered_in_kind(suite):
    for method, path, status in [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1", 404),
        ("GET", URL, 405),
        ("DELETE", "/v1/models", 405),
        ("GET", "/v1/models/nobody", 404),
    ]:
        answer = await suite.http.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
