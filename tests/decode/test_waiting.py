"""Requests that get no token for long are named to their gateway, and what a gateway makes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine

import pytest

from perigee.v1 import decode_pb2, sampling_pb2
from services.decode.constraint.rules import ConstraintRules
from services.gateway.pipeline.failover_policy import FailoverPolicy
from services.gateway.pipeline.submission import Submission
from services.gateway.pipeline.token_source import TokenSource
from services.gateway.request_record import RequestRecord
from services.gateway.workers.router import PromptPages
from services.gateway.workers.stream.inbox import Inbox
from tests.support.decode_bench import Bench, medium, prompt_of
from tests.support.fake_runner import VOCAB, FakeRunner, greedy
from tests.support.loopback import LoopbackRouter, LoopbackWorker
from tests.support.manual_clock import ManualClock
from tests.support.waiting import let_tasks_run


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(time.monotonic())


# -- in the engine: who is named ---------------------------------------------------------------------------


def named_after(bench: Bench, clock: ManualClock, seconds: float) -> list[int]:
    """Handles named in the one step that follows so many seconds."""
    bench.waiting.clear()
    clock.now += seconds
    bench.engine.step()
    return bench.waiting


RULES = ConstraintRules('start: "yes"', False, False, False)
WAITING = {
    "pages, behind others": {"prompt": prompt_of(500), "prefill": ["p:1"]},
    "a prefill worker": {"prompt": prompt_of(100), "prefill": ["p:1"]},
    "media": {"prompt": prompt_of(10), "media": [medium(2, 5)]},
    "its grammar": {"prompt": prompt_of(10), "rules": RULES},
    "its own prompt, computed here": {"prompt": prompt_of(300), "max_tokens": 1},
}


@pytest.mark.parametrize("what", WAITING)
def test_a_request_that_waits_is_named_every_second_until_it_ends(clock, what):
    bench = Bench(10, clock=clock, chunk_tokens=64)
    bench.submit(prompt_of(64 * 4), 1, prefill=["p:0"])  # holds half of the pages, and is named as well
    bench.engine.step()
    options = dict(WAITING[what])
    request = bench.request(options.pop("prompt"), **options)
    bench.engine.submit(request)
    assert request.handle in named_after(bench, clock, 1.0)
    assert named_after(bench, clock, 0.5) == []
    assert request.handle in named_after(bench, clock, 0.5)
    bench.engine.cancel(bench.session, request.handle)
    assert named_after(bench, clock, 1.0) == [1]


def test_a_request_that_gets_tokens_is_not_named(clock):
    bench = Bench(4, clock=clock)
    bench.submit(prompt_of(10), 50)
    for _ in range(5):
        bench.engine.step()
    assert named_after(bench, clock, 10.0) == []


def test_a_preempted_sequence_is_named_once_though_it_is_one_of_three(clock):
    bench = Bench(5, clock=clock)
    heard = bench.submit(prompt_of(60), 150, n=3, timeout_s=3600.0)
    named = []
    while not heard.finish(2):
        named.append(tuple(named_after(bench, clock, 1.0)))
    assert bench.engine.load.preemptions
    assert set(named[1:]) == {(), (1,)}
    bench.run()
    assert [heard.tokens[choice] for choice in range(3)] == [greedy(prompt_of(60), 150)] * 3
    bench.check_free()


# -- and in the gateway ------------------------------------------------------------------------------------


class ClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers go by a clock of the test's."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        super().__init__()

    def time(self) -> float:
        return self._clock()


class Suite:
    """One decode worker of few pages, its gateway's session, and a request with little patience."""

    def __init__(self, clock: ManualClock, constraints=None) -> None:
        self.clock = clock
        self.worker = LoopbackWorker(
            "w:1", constraints, num_pages=6, runner=FakeRunner, vocab_size=VOCAB, local_prefill_tokens=256,
            chunk_tokens=64, engine_options={"clock": clock}, session_options={"clock": clock}, by_hand=True,
        )  # fmt: skip
        self.failovers = 0

    async def second(self) -> None:
        """Passes; the engine makes a step, and everybody else does what there is to do."""
        self.clock.now += 1.0
        await self.worker.step()
        await let_tasks_run(50)

    async def until(self, condition) -> None:
        for _ in range(1000):
            if condition():
                return
            await self.second()
        raise AssertionError("it did not happen")

    async def request(self, prompt, max_tokens, **fields) -> TokenSource:
        """Priority 0; 60 seconds for each token, the first one as well."""
        submit = decode_pb2.Submit(
            request_id="req-test",
            prompt_token_ids=prompt,
            sampling=sampling_pb2.SamplingParams(temperature=0, seed=1, n=1, max_tokens=max_tokens),
            **fields,
        )
        deadline = time.monotonic() + 3600
        submission = Submission(submit, (), PromptPages(len(prompt)), deadline, RequestRecord())
        policy = FailoverPolicy(first_token_s=60.0, token_s=60.0, worker_wait_s=10.0, max_failovers=5)
        router = LoopbackRouter([self.worker], lambda worker: worker.session)
        router.prefill = lambda pages, worker: ["p:1"]
        source = TokenSource(submission, router, None, policy, self._failed_over, self.clock)
        await source.open()
        return source

    def _failed_over(self) -> None:
        self.failovers += 1

    def urgent(self, seed: int):
        """A request that takes two thirds of the pages, of a higher priority."""
        submit = decode_pb2.Submit(
            prompt_token_ids=prompt_of(200, seed),
            sampling=sampling_pb2.SamplingParams(temperature=0, seed=1, n=1, max_tokens=40),
            priority=10,
        )
        return self.worker.session.submit(submit, Inbox())


def run(clock: ManualClock, test: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=lambda: ClockLoop(clock)) as runner:
        runner.run(test)


async def drink(source: TokenSource) -> None:
    """To the end."""
    while True:
        if any(delta.finish_reason for delta in await source.next()):
            return


def test_a_preempted_request_under_a_steady_flow_of_higher_priority_keeps_its_place(clock):
    async def test() -> None:
        suite = Suite(clock)
        await suite.worker.open()
        prompt = prompt_of(100)
        source = await suite.request(prompt, 150)
        drinking = asyncio.create_task(drink(source))
        await suite.until(lambda: len(source.outputs[0]) >= 5)
        flow = [suite.urgent(seed) for seed in (1, 2, 3)]  # one runs, one is next, so that there is no gap
        await suite.until(lambda: suite.worker.engine.load.preemptions)
        await suite.second()
        began, before = clock.now, len(source.outputs[0])
        served = len(flow)
        while clock.now - began < 300:
            for place, stream in enumerate(flow):
                if stream.finished:
                    served += 1
                    flow[place] = suite.urgent(served)
            await suite.second()
        assert served > 5, "the flow does not flow"
        assert len(source.outputs[0]) == before, "it was not kept waiting"
        assert not drinking.done()
        await suite.until(drinking.done)
        await drinking
        assert source.outputs[0] == greedy(prompt, 150)
        assert suite.failovers == 0
        await suite.worker.close()

    run(clock, test())


class NeverReady:
    """A compiler that takes its time."""

    def make(self, *arguments) -> None:
        return


GRAMMAR = decode_pb2.Constraint(grammar='start: "yes"')


@pytest.mark.parametrize("what", ["a prefill worker", "its grammar", "pages"])
def test_a_request_that_waits_for_its_first_token_keeps_its_place(clock, what):
    async def test() -> None:
        suite = Suite(clock, NeverReady())
        await suite.worker.open()
        if what == "pages":
            for seed in (1, 2):
                suite.urgent(seed)
            await suite.second()
        prompt = prompt_of(300) if what == "a prefill worker" else prompt_of(100)
        source = await suite.request(prompt, 20, constraint=GRAMMAR if what == "its grammar" else None)
        drinking = asyncio.create_task(drink(source))
        for number in range(200):
            if what == "pages" and number % 10 == 0:
                suite.urgent(number)
            await suite.second()
        assert not source.outputs[0]
        assert not drinking.done()
        assert suite.failovers == 0
        drinking.cancel()
        source.close()
        await suite.worker.close()

    run(clock, test())


def test_a_worker_whose_engine_stands_still_is_given_up_after_the_time_there_is(clock):
    async def test() -> None:
        suite = Suite(clock, NeverReady())
        await suite.worker.open()
        source = await suite.request(prompt_of(300), 20)
        drinking = asyncio.create_task(drink(source))
        for _ in range(50):
            await suite.second()
        assert suite.failovers == 0
        suite.worker.engine._send_signs_of_life = lambda: None
        for _ in range(65):
            await suite.second()
        assert suite.failovers == 1
        drinking.cancel()
        source.close()
        await suite.worker.close()

    run(clock, test())
