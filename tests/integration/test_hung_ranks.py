"""A rank that is stopped or killed in a step ends its worker in time, and costs no request its answer.

The ranks' process group meets at its first collective.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from services.engine.step_watch import LEAST_S
from tests.support.decode_client import DecodeClient
from tests.support.listening import descendants
from tests.support.prompts import random_prompt
from tests.support.stack import Stack
from tests.support.traffic import Answer, Traffic, chat
from tests.support.waiting import scaled, wait_until

RANKS = {"decode": 2, "decode-1": 4}
CHATS = [chat(seed, num_words=20, max_tokens=100) for seed in range(1, 7)]
GONE_S = 10.0


@pytest.fixture(scope="module")
def stack(nano_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A gateway over two decode workers, of two and of four ranks, whose usual steps are known to them."""
    flags = {name: {"tp": ranks, "kv_pages": 200} for name, ranks in RANKS.items()}
    logs = tmp_path_factory.mktemp("hung")
    modules = {"decode": "tests.support.lazy_worker"}
    with Stack(nano_dir, logs, flags, replicas={"decode": 2}, modules=modules) as stack:
        stack.start(*RANKS, "gateway")
        yield stack


def warm_up(stack: Stack, names: Iterable[str]) -> None:
    """Has each of the workers compute batches of all sizes that CHATS may give it."""
    for name in names:
        with stack.channel(name) as channel:
            client = DecodeClient(channel)
            for count in (1, 2, 4):
                outcomes = [
                    client.submit(random_prompt(40, (count, index)), 110, [])[1] for index in range(count)
                ]
                assert all(outcome.done.wait(scaled(20)) and outcome.error is None for outcome in outcomes)


def ask_while(stack: Stack, disturb) -> list[Answer]:
    async def go() -> list[Answer]:
        async with Traffic(stack.base_url) as traffic:
            return await traffic.ask_through(CHATS, [], disturb)

    return asyncio.run(go())


def ranks_of(stack: Stack, name: str) -> list[int]:
    """The processes of a worker's other ranks."""
    return [
        pid
        for pid in descendants(stack.processes[name].pid)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


@pytest.fixture(scope="module")
def expected(stack: Stack) -> list[tuple[str, str, str | None]]:
    warm_up(stack, RANKS)
    answers = ask_while(stack, lambda: None)
    assert [answer.error for answer in answers] == [None] * len(CHATS)
    return [answer.text for answer in answers]


@pytest.mark.parametrize(
    ("name", "number", "reason", "noticed_s"),
    [
        ("decode", signal.SIGSTOP, "a step of the engine has run for", LEAST_S),
        ("decode-1", signal.SIGSTOP, "a step of the engine has run for", LEAST_S),
        ("decode-1", signal.SIGKILL, "", 0.0),
    ],
)
def test_the_worker_ends_in_time_and_its_requests_finish_elsewhere(
    stack, expected, name, number, reason, noticed_s
):
    if ended := [each for each, process in stack.processes.items() if process.poll() is not None]:
        stack.start(*ended)
        warm_up(stack, ended)
    ranks = ranks_of(stack, name)
    assert len(ranks) == RANKS[name] - 1
    disturbed = []

    def disturb() -> None:
        assert stack.metrics(name)["perigee_requests_running", ()] > 0
        disturbed.append(time.monotonic())
        os.kill(ranks[-1], number)

    answers = ask_while(stack, disturb)
    assert stack.processes[name].wait(scaled(noticed_s + GONE_S)) not in (0, None)
    print(f"answered and ended {time.monotonic() - disturbed[0]:.1f} s after the signal")
    assert [answer.error for answer in answers] == [None] * len(CHATS)
    assert [answer.text for answer in answers] == expected
    assert reason in stack.log(name)
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in ranks), scaled(5))
