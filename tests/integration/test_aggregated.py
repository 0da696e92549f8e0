"""Without a prefill worker decode computes prompts, and answers as in a suite that has one."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.stack import Stack
from tests.support.traffic import Answer, Traffic, chat

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
BODIES = {
    "text": chat(1, num_words=300, max_tokens=30),
    "image": chat(2, images=1, max_tokens=30),
    "tools": chat(3, max_tokens=200, tools=[WEATHER], tool_choice="required", ignore_eos=False),
    "two choices": chat(4, num_words=150, max_tokens=30, n=2),
}
STREAMS = [chat(seed, num_words=100, max_tokens=60) for seed in range(11, 14)]


@pytest.fixture(scope="module")
def aggregated(nano_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Vision, decode and a gateway that waits long enough for a restart of decode."""
    flags = {"gateway": {"prefill": "", "worker_wait_seconds": 100.0}, "decode": {"aggregated": True}}
    with Stack(nano_dir, tmp_path_factory.mktemp("aggregated"), flags) as stack:
        stack.start("vision", "decode", "gateway")
        yield stack


def choices(stack: Stack, body: dict[str, Any]) -> list[Any]:
    answer = httpx.post(f"{stack.base_url}/v1/chat/completions", json=body, timeout=240, trust_env=False)
    assert answer.status_code == 200, answer.text
    found: list[Any] = answer.json()["choices"]
    return found


@pytest.mark.parametrize("kind", BODIES)
def test_answers_are_those_of_the_disaggregated_suite(suite, aggregated, kind):
    body = BODIES[kind]
    found = choices(aggregated, body)
    assert found == choices(suite, body)
    assert len(found) == body.get("n", 1)
    if kind == "tools":
        assert found[0]["message"]["tool_calls"][0]["function"]["name"] == "weather"


def test_nothing_is_missing_and_no_page_was_transferred(aggregated):
    ready = httpx.get(f"{aggregated.base_url}/ready", trust_env=False)
    assert (ready.status_code, ready.json()["missing"]) == (200, [])
    choices(aggregated, BODIES["text"])
    assert aggregated.counter("decode", "perigee_kv_transfer_bytes_total") == 0


@pytest.mark.parametrize("role", ["decode", "vision"])
def test_a_worker_that_is_killed_and_comes_back_changes_no_text(aggregated, role):
    picture = chat(15, images=1, max_tokens=20)

    def restart() -> None:
        aggregated.signal(role, signal.SIGKILL)
        aggregated.start(role)

    async def ask(disturbed: bool) -> list[Answer]:
        async with Traffic(aggregated.base_url) as traffic:
            if not disturbed:
                return await traffic.ask_all([*STREAMS, picture])
            return await traffic.ask_through(STREAMS, [picture], restart, cache_salt=f"{role} killed")

    expected = [answer.text for answer in asyncio.run(ask(False))]
    answers = asyncio.run(ask(True))
    assert [answer.error for answer in answers] == [None] * 4
    assert [answer.text for answer in answers] == expected
