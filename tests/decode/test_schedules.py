"""Whatever happens in whatever order: one end per choice, the same tokens, every page back."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

from services.common.errors import Cancelled, TransferFailed, Unavailable
from services.decode.prompts.fetch import FetchOrder, FetchResult
from services.decode.request import Prompt, Request
from tests.support.burst_stepper import BurstStepper
from tests.support.decode_bench import Bench
from tests.support.fake_runner import greedy, write_context

PAGES = 7


@dataclass
class Told:
    """A request and what it should have said."""

    request: Request
    expected: list[int]
    stops: bool
    cancelled: bool = False


class Schedule:
    """Random submits, cancels, steps and ends of fetches over a pool that is too small."""

    def __init__(self, seed: int, **options) -> None:
        """`options`: of the bench."""
        self.random = random.Random(seed)
        self.bench = Bench(PAGES, max_running=5, headroom_pages=seed % 3, chunk_tokens=64, **options)
        self.requests: list[Told] = []
        self.open: list[tuple[Prompt, FetchOrder]] = []
        self.seen = 0
        self.at_risk: list[tuple[int, ...]] = []

    def act(self) -> None:
        actions: list[tuple[int, Callable[[], None]]] = [
            (12, self.step), (3, self.submit), (1, self.cancel), (4, self.end_fetch), (2, self.settle)
        ]  # fmt: skip
        weights, functions = zip(*actions, strict=True)
        self.random.choices(functions, weights)[0]()

    def step(self) -> None:
        self.bench.engine.step()
        self.open += self.bench.io.orders[self.seen :]
        self.seen = len(self.bench.io.orders)
        for pages in self.at_risk:  # a late byte may land at any time
            self.bench.kv_pages[list(pages)] = -1.0

    def submit(self) -> None:
        length = self.random.choice([1, 2, 20, 63, 64, 65, 100, 129, 150])
        prefix = self.random.choice([0, 1])
        prompt = [(prefix + place * 3) % 64 for place in range(length)]
        max_tokens = self.random.choice([0, 1, 3, 30, 70])
        whole = greedy(prompt, max_tokens)
        resumed = self.random.choice([0, 0, 0, max_tokens // 2])
        stop = [] if resumed else self.random.choice([[], whole[-2:-1], whole[:1]])
        ends = [place + 1 for place, token in enumerate(whole) if token in stop]
        request = self.bench.request(
            prompt,
            max_tokens,
            n=1 if resumed else self.random.choice([1, 1, 2, 3]),
            outputs=whole[:resumed],
            prefill=["a", "b"][: self.random.choice([0, 1, 2, 2])],
            stop=stop,
        )
        self.bench.engine.submit(request)
        self.requests.append(Told(request, whole[resumed : min(ends, default=None)], bool(ends)))

    def cancel(self) -> None:
        if self.requests:
            told = self.random.choice(self.requests)
            told.cancelled = True
            self.bench.engine.cancel(self.bench.session, told.request.handle)

    def end_fetch(self) -> None:
        if not self.open:
            return
        prompt, order = self.open.pop(self.random.randrange(len(self.open)))
        if prompt in self.bench.io.stopped and self.random.random() < 0.7:
            self.fail(prompt, order, Cancelled("stopped"))
        elif self.random.random() < 0.3:
            error = self.random.choice([TransferFailed, Unavailable])
            self.fail(prompt, order, error("bad luck"))
        else:
            write_context(self.bench.kv_pages, order.pages, order.token_ids, order.cached_pages)
            self.bench.engine.fetch_ended(prompt, FetchResult(None))

    def fail(self, prompt: Prompt, order: FetchOrder, error: Exception) -> None:
        pages = order.pages[: self.random.randrange(len(order.pages) + 1)]
        if pages:
            self.at_risk.append(pages)
        self.bench.engine.fetch_ended(prompt, FetchResult(error, pages_at_risk=pages))

    def settle(self) -> None:
        if self.at_risk:
            pages = self.at_risk.pop(self.random.randrange(len(self.at_risk)))
            self.bench.engine.pages_settled(pages)

    def wind_down(self) -> None:
        for _ in range(5000):
            self.step()
            self.end_fetch()
            self.settle()
            if not self.bench.session.requests and not self.open and not self.at_risk:
                return
        raise AssertionError("it does not come to an end")


KINDS = {
    "in step": {},
    "ahead": {"ahead": True},
    "bursts": {"stepper": partial(BurstStepper, burst=5)},
    "bursts ahead": {"stepper": partial(BurstStepper, burst=3, overlaps=True)},
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("seed", range(40))
def test_every_choice_ends_once_with_the_tokens_of_a_plain_run_and_every_page_comes_back(seed, kind):
    schedule = Schedule(seed, **KINDS[kind])
    for _ in range(150):
        schedule.act()
        schedule.bench.engine._pages.check_integrity()
    schedule.wind_down()
    for told in schedule.requests:
        heard = schedule.bench.heard[told.request.handle]
        for choice in told.request.choices:
            finish = heard.finish(choice)
            tokens = heard.tokens[choice]
            assert tokens == told.expected[: len(tokens)]
            if finish in ("LENGTH", "STOP"):
                assert tokens == told.expected
                assert told.stops == (finish == "STOP")
            elif finish == "CANCELLED":
                assert told.cancelled
            else:
                assert finish == "ERROR"
                assert heard.errors
    schedule.bench.check_free()


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_schedules_visit_what_they_are_for(kind):
    preemptions = finishes = errors = cancels = late = 0
    for seed in range(12):
        schedule = Schedule(seed, **KINDS[kind])
        for _ in range(150):
            schedule.act()
            late += len(schedule.at_risk)
        schedule.wind_down()
        preemptions += schedule.bench.engine.load.preemptions
        ends = [
            end for heard in schedule.bench.heard.values() for ends in heard.finishes.values() for end in ends
        ]
        finishes += ends.count("LENGTH")
        errors += ends.count("ERROR")
        cancels += ends.count("CANCELLED")
    assert min(preemptions, finishes, cancels, late) > 5
    assert errors > 5 or "bursts" in kind, "several tokens a step empty the queue before it is full"
