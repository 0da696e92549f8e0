"""The skills' evaluation against a server that knows the answers, or does not."""

from __future__ import annotations

import io
import json

import httpx
import pytest

from evals.endpoint import Endpoint, Failed, first_model
from evals.progress import ProgressBar
from evals.request import answer_of, chat_body
from evals.rows import ROWS
from evals.skills import Plan, run, table
from training.skills.curriculum import Curriculum

PLAN = Plan(ROWS, cases=4, concurrency=3, max_tokens=100, seed=1)


def known_answers():
    """Body of the request, as text, to the message that is right."""
    curriculum = Curriculum(PLAN.seed)
    known = {}
    for row in ROWS:
        for case in row.cases(curriculum, PLAN.cases):
            calls = [
                {"id": "x", "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}
                for call in case.calls
            ]
            body = json.dumps(chat_body(case.conversation, "m", 100), sort_keys=True)
            known[body] = {"content": case.answer or None, "tool_calls": calls or None}
    return known


def endpoint(handler):
    return Endpoint("http://test", httpx.MockTransport(handler))


async def evaluate(handler):
    bar = ProgressBar(PLAN.cases * len(ROWS), io.StringIO())
    server = endpoint(handler)
    try:
        return await run(server, "m", PLAN, bar)
    finally:
        await server.close()


async def test_a_server_that_knows_the_answers_gets_full_marks():
    known = known_answers()

    def answer(request):
        body = json.dumps(json.loads(request.content), sort_keys=True)
        return httpx.Response(200, json={"choices": [{"message": known[body]}]})

    result = await evaluate(answer)
    assert [row["accuracy"] for row in result["rows"].values()] == [1.0] * len(ROWS)
    assert "4/4" in table(result)


async def test_a_server_that_says_the_same_to_all_gets_none():
    reply = {"choices": [{"message": {"content": "Hm."}}]}
    result = await evaluate(lambda request: httpx.Response(200, json=reply))
    assert sum(row["right"] for row in result["rows"].values()) == 0
    assert all(row["interval"][1] < 0.6 for row in result["rows"].values())


async def test_failed_requests_count_as_wrong_and_are_told():
    result = await evaluate(lambda request: httpx.Response(500, text="out of order"))
    row = result["rows"]["tool calls"]
    assert (row["right"], row["failed"]) == (0, 4)
    assert row["errors"] == ["/v1/chat/completions: 500 out of order"]


async def test_a_busy_server_is_asked_again():
    seen = []

    def answer(request):
        seen.append(request)
        return (
            httpx.Response(429, headers={"retry-after": "0"})
            if len(seen) < 3
            else httpx.Response(200, json={})
        )

    server = endpoint(answer)
    assert await server.post("/x", {}) == {}
    await server.close()
    assert len(seen) == 3


async def test_a_server_that_names_no_model_is_an_error():
    with pytest.raises(Failed, match="names no model"):
        await first_model(endpoint(lambda request: httpx.Response(200, json={"data": []})))


def test_arguments_that_are_no_json_object_are_not_read():
    call = {"function": {"name": "f", "arguments": "[1]"}}
    with pytest.raises(ValueError, match="no JSON object"):
        answer_of({"choices": [{"message": {"content": "", "tool_calls": [call]}}]})


def test_a_row_of_one_mode_has_only_cases_of_it():
    for row in ROWS[:2]:
        modes = {case.conversation.thinking for case in row.cases(Curriculum(1), 20)}
        assert modes == {row.thinking}
