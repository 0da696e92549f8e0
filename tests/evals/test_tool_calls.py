"""The tool-call run against a server that calls well, and against one that does not."""

from __future__ import annotations

import io
import json

import httpx
import pytest

from evals.endpoint import Endpoint, Failed
from evals.progress import ProgressBar
from evals.tool_calls import END_OF_THINKING, SECTION, Run, all_cases, summary, table

CASES = all_cases(1)
IDS = {SECTION: 7, END_OF_THINKING: 8}


class Caller:
    """A server whose every answer is one call with these arguments, streamed where that was asked for."""

    def __init__(self, arguments: str) -> None:
        self.bodies: list[dict] = []
        self._arguments = arguments

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if request.url.path == "/tokenize":
            return httpx.Response(200, json={"tokens": [IDS[body["prompt"]]]})
        self.bodies.append(body)
        made = {
            "index": 0,
            "function": {"name": body["tools"][0]["function"]["name"], "arguments": self._arguments},
        }
        choice = {"finish_reason": "tool_calls"}
        usage = {"completion_tokens": 5}
        if not body.get("stream"):
            return httpx.Response(
                200, json={"choices": [choice | {"message": {"tool_calls": [made]}}], "usage": usage}
            )
        events = [{"choices": [choice | {"delta": {"tool_calls": [made]}}]}, {"choices": [], "usage": usage}]
        return httpx.Response(
            200, text="".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        )


async def result_of(server: Caller) -> dict:
    endpoint = Endpoint("http://test", httpx.MockTransport(server))
    run = Run(endpoint, "m", 100, ProgressBar(len(CASES), io.StringIO()))
    try:
        await run.prepare()
        for case in CASES:
            await run.ask(case)
    finally:
        await endpoint.close()
    return summary(run.counts)


async def test_every_tool_is_asked_for_in_twelve_ways():
    server = Caller("{}")
    await result_of(server)
    ways = {
        (
            bool(body.get("stream")),
            body["chat_template_kwargs"]["thinking"],
            str(body["tool_choice"]),
            str(body["logit_bias"]),
        )
        for body in server.bodies
    }
    assert len(ways) == 12
    assert {"{'7': 100.0}", "{'7': 100.0, '8': 4.0}", "{'8': 4.0}", "{}"} == {way[-1] for way in ways}


async def test_calls_that_are_invalid_fail_the_run():
    result = await result_of(Caller("[]"))
    assert result["wrong"]["invalid"] == 12
    assert not result["passed"]
    assert "stream  instant   auto" in table(result)


async def test_half_a_call_in_a_stream_is_as_wrong_as_in_a_whole_answer():
    result = await result_of(Caller('{"a'))
    assert all(counts["invalid"] == 1 for counts in result["kinds"].values())


async def test_a_stream_without_its_end_is_no_answer():
    endpoint = Endpoint(
        "http://test", httpx.MockTransport(lambda _: httpx.Response(200, text="data: {}\n\n"))
    )
    with pytest.raises(Failed, match="broke off"):
        await endpoint.events("/v1/chat/completions", {})
    await endpoint.close()
