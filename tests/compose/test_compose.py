"""The suite in containers; the tests run in this order, over one running project."""

from __future__ import annotations

import asyncio
import functools
import random
import time

import pytest

from perigee.v1 import generation_pb2_grpc
from tests.compose.conftest import ONE, TWO
from tests.support.compose import WORKERS, Compose
from tests.support.conversations import Conversation, cached_tokens, hold_conversations
from tests.support.traffic import Answer, Traffic, mixture

STREAMS = 20
# `perigee workers` shows the first 8 of an incarnation's 32 digits.
_HIDDEN_DIGITS = 24
# For each role, a metric that grows with every request that a worker serves.
SERVED = {
    "vision": "perigee_vision_cache_misses_total",
    "prefill": "perigee_prefill_computed_tokens_total",
    "decode": "perigee_kv_transfer_bytes_total",
}


async def ask_all(compose: Compose, bodies: list[dict], **fields) -> list[Answer]:
    async with Traffic(compose.base_url) as traffic:
        return await traffic.ask_all([body | fields for body in bodies])


@pytest.fixture(scope="module")
def alone(compose: Compose) -> int:
    """How many tokens one worker of each role finds in its caches over 20 conversations of 5 turns."""
    compose.flush()
    with compose.channel() as channel:
        return cached_tokens(hold_conversations(channel, count=20, turns=5, salt="alone"))


@pytest.fixture(scope="module")
def pair(compose: Compose, alone: int) -> Compose:
    """Two workers of each role, once one of each has been measured."""
    compose.up(TWO)
    compose.wait_until_whole()
    return compose


def test_containers_run_without_privileges_and_the_gateway_without_torch(compose):
    for service in (*WORKERS, "gateway"):
        assert compose.execute(service, "id", "-u").strip() not in ("", "0")
        compose.execute(service, "sh", "-c", "! touch /perigee-was-here 2>/dev/null")
    compose.execute("gateway", "sh", "-c", "! python -c 'import torch' 2>/dev/null")


def test_pages_move_over_tcp_between_containers_and_every_worker_says_so(compose):
    assert {worker.info.transport.transport for worker in compose.workers()} == {"tcp"}
    prefill, decode = compose.addresses("prefill")[0], compose.addresses("decode")[0]
    table = compose.execute("gateway", "perigee", "workers")
    print(table)
    for worker in compose.workers():
        assert worker.address in table
        assert worker.info.incarnation[:-_HIDDEN_DIGITS] in table
    checked = compose.execute("gateway", "perigee", "transfer-check", decode, prefill)
    print(checked)
    assert checked.count("tcp") >= 2


def test_the_next_turn_of_a_tool_round_computes_only_what_is_in_no_whole_cached_page(compose):
    with compose.channel() as channel:
        talk = Conversation(generation_pb2_grpc.GenerationServiceStub(channel), "tool round", "tool round")
        for new_tokens in (500, 300, 10, 400):
            could_be = talk.turns[-1].most_cached if talk.turns else 0
            turn = talk.take_turn(new_tokens, 150)
            print(f"{len(turn.prompt)} prompt tokens, {turn.cached} cached, {could_be} could be")
            assert could_be <= turn.cached < len(turn.prompt)


def test_mixed_traffic_is_served_by_every_replica(pair):
    before = {name: pair.metric_by_worker(name) for name in SERVED.values()}
    answers = asyncio.run(ask_all(pair, mixture(40, max_tokens=30)))
    assert [answer.error for answer in answers] == [None] * 40
    for role, name in SERVED.items():
        now = pair.metric_by_worker(name)
        work = {address: now[address] - before[name].get(address, 0.0) for address in pair.addresses(role)}
        print(role, work)
        assert len(work) == 2
        assert all(work.values())


def test_two_workers_find_nine_tenths_of_the_cache_hits_that_one_does(pair, alone):
    pair.flush()
    with pair.channel() as channel:
        found = cached_tokens(hold_conversations(channel, count=20, turns=5, salt="two"))
    print(f"one worker of each role: {alone} cached tokens, two: {found}, {found / alone:.1%}")
    assert found >= 0.9 * alone


def test_killing_each_worker_in_turn_changes_no_text(pair):
    early, late = mixture(STREAMS // 2, 101, max_tokens=80), mixture(STREAMS // 2, 201, max_tokens=30)
    expected = [answer.text for answer in asyncio.run(ask_all(pair, [*early, *late]))]
    assert len(set(expected)) > 0.8 * STREAMS

    async def ask_through(container: str) -> list[Answer]:
        async with Traffic(pair.base_url) as traffic:
            kill = functools.partial(pair.kill_process, container)
            return await traffic.ask_through(early, late, kill, cache_salt=container)

    for role in ("decode", "prefill", "vision"):
        for container in pair.containers(role):
            started = time.monotonic()
            answers = asyncio.run(ask_through(container))
            took = time.monotonic() - started
            assert [answer.error for answer in answers] == [None] * STREAMS
            assert [answer.text for answer in answers] == expected
            print(f"{role} {container[:12]} killed: {STREAMS} texts as before, all there after {took:.1f} s")
            pair.wait_until_whole()


def test_scaling_pools_while_requests_flow_loses_none_of_them(pair):
    bodies = mixture(12, 401, max_tokens=60)
    expected = [answer.text for answer in asyncio.run(ask_all(pair, bodies))]
    draw = random.Random(1)

    async def go() -> list[tuple[int, Answer]]:
        scaling = asyncio.create_task(asyncio.to_thread(scale))
        heard: list[tuple[int, Answer]] = []

        async def client(traffic: Traffic) -> None:
            while not scaling.done():
                index = draw.randrange(len(bodies))
                heard.append((index, await traffic.ask(bodies[index])))

        async with Traffic(pair.base_url) as traffic:
            await asyncio.gather(*(client(traffic) for _ in range(8)))
        await scaling
        return heard

    def scale() -> None:
        for counts in (
            ONE,
            {"vision": 2, "prefill": 1, "decode": 2},
            {"vision": 1, "prefill": 2, "decode": 1},
            TWO,
        ):
            pair.up(counts)
            pair.wait_until_whole()

    heard = asyncio.run(go())
    wrong = [answer.error for index, answer in heard if answer.error or answer.text != expected[index]]
    print(f"{len(heard)} requests while scaling, {len(wrong)} lost or wrong")
    assert wrong == []
    assert len(heard) > 20


def test_without_prefill_text_is_served_all_the_same(compose):
    bodies = mixture(2, 900, max_tokens=5)
    expected = [answer.text for answer in asyncio.run(ask_all(compose, bodies))]
    compose.run("stop", "prefill")
    answers = asyncio.run(ask_all(compose, bodies, cache_salt="no prefill"))
    assert [answer.error for answer in answers] == [None, None]
    assert [answer.text for answer in answers] == expected


def test_every_process_ends_well_when_it_is_stopped(compose):
    containers = {role: compose.containers(role) for role in ("decode", "vision", "gateway")}
    compose.run("stop", "gateway", "decode", "vision")
    for role, ids in containers.items():
        codes = [compose.inspect(container)["State"]["ExitCode"] for container in ids]
        assert set(codes) == {0}, f"{role}: {codes}"
