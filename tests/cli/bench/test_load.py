"""When requests are sent, and what is recorded of them."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from services.cli.bench.load import LoadRunner
from services.cli.bench.records import Began, Ended, Request
from services.cli.bench.targets.timeline import Timeline
from services.cli.bench.workload.ask import Answer, Ask
from services.cli.bench.workload.prompts import OneRequest
from services.common.errors import Unavailable
from tests.cli.bench.made import began

pytestmark = pytest.mark.virtual_time


class Slow:
    """Answers each request after a second. `fails`: by prompt length, the errors."""

    def __init__(self, fails=None):
        self.fails = fails or {}
        self.asked = []
        self.running = self.most = 0

    async def ask(self, ask):
        self.asked.append(ask)
        self.running += 1
        self.most = max(self.most, self.running)
        loop = asyncio.get_running_loop()
        timeline = Timeline(loop.time())
        await asyncio.sleep(1)
        self.running -= 1
        timeline.texts, timeline.end = [loop.time()], loop.time()
        timeline.error = self.fails.get(ask.input_tokens, "")
        timeline.answer = Answer(content=f"to {ask.input_tokens}")
        return timeline


async def recorded(target, began, sessions):
    records = []
    runner = LoadRunner(target, records.append, asyncio.get_running_loop().time)
    await runner.run(began, sessions)
    return records


def sessions(count):
    return [OneRequest(Ask(5, number + 1)) for number in range(count)]


async def test_no_more_requests_run_at_once_than_allowed():
    target = Slow()
    first, *requests, last = await recorded(target, began(concurrency=3), sessions(7))
    assert isinstance(first, Began)
    assert (target.most, len(requests)) == (3, 7)
    assert sorted(round(request.start_s) for request in requests) == [0, 0, 0, 1, 1, 1, 2]
    assert last == Ended(first.run, 1.0, pytest.approx(3.0))


async def test_waiting_for_a_place_is_no_part_of_a_request_s_time():
    _, *requests, _ = await recorded(Slow(), began(concurrency=1), sessions(3))
    assert [request.latency_s for request in requests] == pytest.approx([1.0] * 3)


async def test_without_a_limit_all_start_at_once():
    target = Slow()
    await recorded(target, began(concurrency=0), sessions(20))
    assert target.most == 20


async def test_requests_come_at_random_moments_at_the_rate_asked_for():
    _, *requests, _ = await recorded(Slow(), began(concurrency=0, rate=10.0), sessions(400))
    starts = sorted(request.start_s for request in requests)
    gaps = [after - before for before, after in pairwise(starts)]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.1, rel=0.15)
    # Of a Poisson process' gaps the deviation is the mean.
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.2)


async def test_the_same_seed_gives_the_same_moments():
    runs = [await recorded(Slow(), began(rate=10.0, concurrency=0), sessions(5)) for _ in range(2)]
    one, other = ([record.start_s for record in run if isinstance(record, Request)] for run in runs)
    assert one == pytest.approx(other)


class Talk:
    """Three rounds, each about what was answered before."""

    def turns(self):
        heard = Answer(content="nothing")
        for number in range(3):
            heard = yield Ask(5, number + 1, messages=[{"content": heard.content}])


async def test_each_turn_is_made_from_the_answer_before():
    target = Slow()
    _, *requests, _ = await recorded(target, began(), [Talk()])
    assert [ask.messages[0]["content"] for ask in target.asked] == ["nothing", "to 1", "to 2"]
    assert [(request.session, request.turn) for request in requests] == [(0, 0), (0, 1), (0, 2)]


async def test_a_conversation_ends_where_a_request_fails_and_the_others_go_on():
    target = Slow(fails={2: "gone"})
    _, *requests, _ = await recorded(target, began(concurrency=1), [Talk(), OneRequest(Ask(5, 7))])
    assert [(request.session, request.turn, request.error) for request in requests] == [
        (0, 0, ""), (0, 1, "gone"), (1, 0, ""),
    ]  # fmt: skip


async def test_nothing_is_measured_if_the_first_request_fails():
    target = Slow(fails={1: "no such route"})
    runner = LoadRunner(target, lambda record: None, asyncio.get_running_loop().time)
    with pytest.raises(Unavailable, match="no such route"):
        await runner.warm_up(OneRequest(Ask(500, 1)))
    assert target.asked[0].max_tokens == 32
