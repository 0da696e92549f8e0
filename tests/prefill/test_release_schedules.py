"""Whatever is said in whatever order, forged or not: a release is confirmed only for pages that nobody else
was given since they were leased.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from services.engine.kv_cache.page_pool import PagePool
from services.prefill.events import Admitted, Released
from services.prefill.job import JobState
from tests.support.decode_bench import prompt_of
from tests.support.prefill_bench import PrefillBench, Reader

LEASE_S = 10.0


class Witness:
    """Counts how often each page was handed out."""

    def __init__(self, pool: PagePool) -> None:
        self.times: Counter[int] = Counter()
        self._allocate = pool.allocate
        pool.allocate = self.allocate  # type: ignore[method-assign]

    def allocate(self, count: int) -> list[int]:
        pages = self._allocate(count)
        self.times.update(pages)
        return pages


class Schedule:
    """Two readers, and somebody who says things in their names, over a pool that is short of pages."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.bench = PrefillBench(8, chunk_tokens=64, lease_s=LEASE_S)
        self.witness = Witness(self.bench.engine._pages.pool)
        self.readers: list[Reader] = []
        self.granted: dict[int, Counter[int]] = {}
        self.answers: Counter[str] = Counter()

    def act(self) -> None:
        actions: list[tuple[int, Callable[[], object]]] = [
            (9, self.step), (4, self.submit), (5, self.release), (2, self.renew), (2, self.settle),
            (1, self.abandon), (1, self.pass_time), (1, self.gone),
        ]  # fmt: skip
        weights, functions = zip(*actions, strict=True)
        self.dice.choices(functions, weights)[0]()

    def step(self) -> None:
        self.bench.engine.step()
        for reader in self.readers:
            for admitted in reader.all(Admitted):
                pages = {page: self.witness.times[page] for page in admitted.pages}
                self.granted.setdefault(admitted.lease.id, Counter(pages))

    def submit(self) -> None:
        # Different prompts, so that every page is needed anew, and the same ones, so that some are cached.
        prompt = prompt_of(self.dice.choice([10, 64, 150, 300]), self.dice.choice([0, len(self.readers)]))
        self.readers.append(self.bench.submit(prompt, reader=self.dice.choice(["decode-1", "decode-2"])))

    def release(self) -> None:
        """At any time, once or twice, and perhaps of another lease."""
        if not self.readers:
            return
        reader, engine = self.dice.choice(self.readers), self.bench.engine
        lease_id = self.dice.choice([reader.job.lease_id] * 4 + [self.dice.choice(self.readers).job.lease_id])
        before = len(reader.all(Released))
        engine.leases.answer_release(reader.job, lease_id, lease_id)
        confirmed = len(reader.all(Released)) > before
        self.answers["released" if confirmed else "refused"] += 1
        if confirmed:
            assert lease_id == reader.job.lease_id
            now = Counter({page: self.witness.times[page] for page in self.granted[lease_id]})
            assert now == self.granted[lease_id], "a page was somebody else's meanwhile"
        if self.dice.random() < 0.8:
            engine.release(reader.job)

    def renew(self) -> None:
        if self.readers:
            self.bench.engine.renew(self.dice.choice(self.readers).job)

    def settle(self) -> None:
        """In any state: a second handshake of the same incarnation may say so."""
        if self.readers:
            job = self.dice.choice(self.readers).job
            self.answers["forged"] += job.state in (JobState.COMPUTING, JobState.DONE)
            self.bench.engine.settled(job.reader, [job.lease_key])

    def abandon(self) -> None:
        if self.readers:
            self.bench.engine.abandon(self.dice.choice(self.readers).job)

    def pass_time(self) -> None:
        self.bench.clock.now += self.dice.choice([LEASE_S / 3, LEASE_S, LEASE_S * 2])

    def gone(self) -> None:
        """A handshake ends and begins again."""
        reader = self.dice.choice(["decode-1", "decode-2"])
        self.bench.engine.reader_gone(reader)
        self.bench.engine.reader_joined(reader)


@pytest.mark.parametrize("seed", range(24))
def test_a_confirmed_release_means_that_the_pages_were_nobody_elses(seed):
    schedule = Schedule(seed)
    for _ in range(300):
        schedule.act()
    schedule.bench.engine._pages.pool.check_integrity()


def test_the_schedules_confirm_refuse_and_forge():
    answers: Counter[str] = Counter()
    for seed in range(10):
        schedule = Schedule(seed)
        for _ in range(300):
            schedule.act()
        answers += schedule.answers
        answers["used again"] += max(schedule.witness.times.values())
    assert min(answers.values()) > 20, answers
