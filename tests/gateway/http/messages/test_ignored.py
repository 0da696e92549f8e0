"""What of a request of an agent is ignored is said, counted, and on request refused."""

from __future__ import annotations

from services.gateway.http.messages.body import MessagesBody
from services.gateway.http.unknown_fields import UnknownFields
from tests.gateway.http.messages.talk import VERSION, WRITE_FILE, message_body, post
from tests.gateway.suite import open_suite

HOSTED = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
BETAS = "claude-code-20250219,context-1m-2025-08-07, interleaved-thinking-2025-05-14"
STRANGE = {
    "context_management": {"edits": []},
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", "x,y": 1}] * 2}],
    "tools": [WRITE_FILE | {"defer_loading": True}, HOSTED],
}
KNOWN = {
    "metadata": {"user_id": "u"},
    "service_tier": "auto",
    "system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}],
    "thinking": {"type": "adaptive", "budget_tokens": 7, "display": "summarized"},
    "output_config": {"effort": "high"},
}


async def ask(suite, **fields):
    headers = {**VERSION, "anthropic-beta": BETAS}
    return await suite.http.post("/v1/messages?beta=true", json=message_body(**fields), headers=headers)


async def test_unknown_fields_tools_and_betas_are_listed_and_counted(suite):
    for path in ("", "/count_tokens"):
        answer = await suite.http.post(
            f"/v1/messages{path}", json=message_body(**STRANGE), headers={**VERSION, "anthropic-beta": BETAS}
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["perigee-ignored"].split(", ") == [
            "messages.content.x_y",
            "context_management",
            "tools.defer_loading",
            "tools.max_uses",
            "tool:web_search_20250305",
            "beta:context-1m-2025-08-07",
        ]
    page = (await suite.http.get("/metrics")).text
    for kind, count in (("field", 8), ("tool", 2), ("beta", 2)):
        assert f'perigee_ignored_fields_total{{kind="{kind}"}} {count}.0' in page
    stream = await ask(suite, stream=True, **STRANGE)
    assert "context_management" in stream.headers["perigee-ignored"]


async def test_hosted_tools_are_not_shown_to_the_model_and_cannot_be_chosen(suite):
    answer = await post(suite, tools=[WRITE_FILE, HOSTED])
    assert answer.status_code == 200
    assert "web_search" not in suite.tokenizer.decode(list(suite.decode.submits[0].prompt_token_ids))
    chosen = await post(suite, tools=[WRITE_FILE, HOSTED], tool_choice={"type": "tool", "name": "web_search"})
    assert chosen.status_code == 400


async def test_nothing_is_said_of_what_is_known(suite):
    answer = await post(suite, **KNOWN)
    assert answer.status_code == 200, answer.text
    assert "perigee-ignored" not in answer.headers


async def test_strict_fields_refuses_them_by_name():
    async with open_suite(strict_fields=True) as suite:
        assert (await post(suite, **KNOWN)).status_code == 200
        answer = await ask(suite)
        assert answer.status_code == 400
        assert "beta:context-1m-2025-08-07" in answer.json()["error"]["message"]
        assert "messages.content.x_y" in (await post(suite, **STRANGE)).json()["error"]["message"]


def test_the_list_is_short_however_many_there_are():
    names = ", ".join(f'"a{number}": 1' for number in range(1000))
    found = UnknownFields(MessagesBody).of(f"{{{names}}}".encode())
    assert len(found) == 1000


async def test_the_header_is_bounded(suite):
    answer = await post(suite, **{f"strange_{number}" + "x" * 200: 1 for number in range(100)})
    assert len(answer.headers["perigee-ignored"]) < 4096
