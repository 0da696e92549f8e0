"""The cookbook's questions to a server that knows the answers, or does not."""

from __future__ import annotations

import json

import httpx
import pytest

from evals import cookbook
from evals.endpoint import Endpoint, Failed
from evals.request import chat_body

TEXTS = {
    "bigger, thinking": "9.9 is bigger.",
    "bigger, instant": "9.9 is bigger than 9.11.",
    "tool result": "It is 22 degrees and sunny in Beijing.",
}


def right_answers():
    """Body of each request, as text, to its message."""
    known = {}
    for case in cookbook.cases():
        calls = [
            {"id": "x", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}
            for call in case.expect.calls
        ]
        text = TEXTS.get(case.skill, " ".join(case.expect.values))
        body = json.dumps(chat_body(case.conversation, "m", 100), sort_keys=True)
        known[body] = {"content": text or None, "tool_calls": calls or None}
    return known


async def judge(handler):
    server = Endpoint("http://test", httpx.MockTransport(handler))
    try:
        return await cookbook.run(server, "m", 100)
    finally:
        await server.close()


async def test_right_answers_are_right(capsys):
    known = right_answers()

    def answer(request):
        body = json.dumps(json.loads(request.content), sort_keys=True)
        return httpx.Response(200, json={"choices": [{"message": known[body]}]})

    right = await judge(answer)
    assert len(right) == 6
    assert all(right.values())
    assert "get_weather({'location': 'Beijing'})" in capsys.readouterr().out


async def test_an_answer_that_names_the_wrong_number_first_or_calls_nothing_is_wrong(capsys):
    reply = {"choices": [{"message": {"content": "9.11 is bigger than 9.9."}}]}
    right = await judge(lambda request: httpx.Response(200, json=reply))
    assert not any(right.values())
    assert "wanted ('9.9',)" in capsys.readouterr().out


async def test_a_server_that_gives_no_answer_is_a_failure():
    with pytest.raises(Failed, match="out of order"):
        await judge(lambda request: httpx.Response(500, text="out of order"))
