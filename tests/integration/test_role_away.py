"""With one worker per role, killing the only worker of a role under load refuses and loses no request."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.stack import Stack
from tests.support.traffic import Answer, Traffic, chat

SHORT = [chat(seed, num_words=60, max_tokens=60) for seed in range(1, 4)]
LONG = [chat(seed, num_words=350, max_tokens=20) for seed in range(4, 6)]
TEXTS = [*SHORT, *LONG]
PICTURE = chat(6, images=1, max_tokens=60)


@pytest.fixture(scope="module")
def stack(nano_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All four processes; a test that kills one must start it again."""
    flags = {"gateway": {"worker_wait_seconds": 1.0}, "decode": {"kv_pages": 400}}
    with Stack(nano_dir, tmp_path_factory.mktemp("away"), flags) as stack:
        stack.start()
        yield stack


def ask(stack: Stack, bodies: Sequence[dict[str, Any]], salt: str) -> list[Answer]:
    """Sends all requests at once."""

    async def go() -> list[Answer]:
        async with Traffic(stack.base_url) as traffic:
            return await traffic.ask_all([body | {"cache_salt": salt} for body in bodies])

    return asyncio.run(go())


def ask_while_killing(stack: Stack, early: Sequence[dict[str, Any]], role: str) -> list[Answer]:
    """Kills the role's worker while the early requests stream and the prompts of LONG are being computed."""

    async def go() -> list[Answer]:
        async with Traffic(stack.base_url) as traffic:

            def kill() -> None:
                stack.signal(role, signal.SIGKILL)

            return await traffic.ask_through(early, LONG, kill, cache_salt=f"{role} dies")

    return asyncio.run(go())


def readiness(stack: Stack) -> dict[str, Any]:
    answer = httpx.get(f"{stack.base_url}/ready", trust_env=False)
    assert answer.status_code == 200
    body: dict[str, Any] = answer.json()
    return body


def prefilled(stack: Stack) -> int:
    """Prompt tokens that the prefill worker has computed since its start."""
    return stack.counter("prefill", "perigee_prefill_computed_tokens_total")


@pytest.fixture(scope="module")
def expected(stack: Stack) -> list[tuple[str, str, str | None]]:
    """The answers to TEXTS and PICTURE with all workers."""
    answers = ask(stack, [*TEXTS, PICTURE], "whole")
    assert [answer.error for answer in answers] == [None] * len(answers)
    assert prefilled(stack) > 0
    return [answer.text for answer in answers]


def test_while_prefill_is_dead_every_text_is_answered_and_when_it_is_back_it_is_used(stack, expected):
    dying = ask_while_killing(stack, SHORT, "prefill")
    assert [answer.error for answer in dying] == [None] * len(TEXTS)
    assert [answer.text for answer in dying] == expected[:-1]
    dead = ask(stack, [*TEXTS, PICTURE], "prefill is dead")
    assert [answer.error for answer in dead] == [None] * len(expected)
    assert [answer.text for answer in dead] == expected
    body = readiness(stack)
    assert (body["text"], body["images"], body["missing"]) == (True, True, ["prefill"])
    stack.start("prefill")
    assert prefilled(stack) == 0
    assert [answer.text for answer in ask(stack, TEXTS[:1], "prefill is back")] == expected[:1]
    assert prefilled(stack) > 0


def test_while_vision_is_dead_texts_and_the_pictures_that_run_are_answered(stack, expected):
    dying = ask_while_killing(stack, [*SHORT, PICTURE], "vision")
    assert [answer.error for answer in dying] == [None] * len(expected)
    assert [answer.text for answer in dying] == [*expected[:3], expected[-1], *expected[3:5]]
    body = readiness(stack)
    assert (body["text"], body["images"], body["missing"]) == (True, False, ["vision"])
    dead = ask(stack, [*TEXTS, PICTURE], "vision is dead")
    assert [answer.text for answer in dead[:-1]] == expected[:-1]
    assert dead[-1].error.startswith("503")
    assert "no vision worker can serve" in dead[-1].error
    stack.start("vision")
    assert [answer.text for answer in ask(stack, [PICTURE], "vision is back")] == expected[-1:]
