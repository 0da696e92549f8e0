"""Whatever readers do in whatever order: every page comes back, and what was announced is right."""

from __future__ import annotations

import random

import pytest
import torch

from services.prefill.job import JobState
from tests.support.decode_bench import medium, prompt_of
from tests.support.fake_runner import HIDDEN
from tests.support.prefill_bench import PrefillBench, Reader

READERS = ("decode-a", "decode-b")
ACTIONS = (
    "step",
    "submit",
    "release",
    "abandon",
    "settle",
    "media",
    "renew",
    "wait",
    "gone",
    "read",
    "land",
)
WEIGHTS = (10, 4, 3, 2, 3, 2, 2, 0.3, 0.3, 3, 2)


class Schedule:
    """Random words of two readers over a small pool with short leases."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        num_pages = 6 if seed % 3 else 16
        self.bench = PrefillBench(num_pages, chunk_tokens=64, lease_s=0.02 if seed % 2 else 60.0)
        self.readers: list[Reader] = []
        self.ended_reads = 0
        self.at_risk: list[tuple[int, ...]] = []

    def act(self) -> None:
        action = self.random.choices(ACTIONS, WEIGHTS)[0]
        engine = self.bench.engine
        if action == "step":
            engine.step()
        elif action == "submit":
            self.submit()
        elif action == "wait":
            self.bench.clock.now += 0.01
        elif action == "gone":
            name = self.random.choice(READERS)
            engine.reader_gone(name)
            engine.reader_joined(name)
        elif action == "read":
            self.end_read()
        elif action == "land":
            self.settle_pages()
        elif self.readers:
            self.say(action, self.random.choice(self.readers))

    def submit(self) -> None:
        length = self.random.choice([1, 63, 64, 65, 130, 300])
        cached_pages = self.random.choice([0, 0, 1, 2, 4])
        has_source = cached_pages * 64 < length and self.random.random() < 0.7
        reader = self.bench.submit(
            prompt_of(length, self.random.choice([0, 1, len(self.readers)])),
            reader=self.random.choice(READERS),
            cached_pages=cached_pages,
            source="decode:1" if has_source else "",
            media=[medium(length - 1, 1)] if self.random.random() < 0.2 else [],
        )
        self.readers.append(reader)

    def end_read(self) -> None:
        """The oldest read ends, well or not, for a job that may have ended long before."""
        if self.ended_reads == len(self.bench.source.orders):
            return
        _, order = self.bench.source.orders[self.ended_reads]
        arrived = self.random.randrange(len(order.pages) + 1)
        at_risk = self.random.randrange(len(order.pages) - arrived + 1)
        self.at_risk.append(self.bench.end_read(arrived, at_risk, self.ended_reads))
        self.ended_reads += 1

    def settle_pages(self) -> None:
        """The last bytes of an ended read land; nobody may have had a use for those pages meanwhile."""
        if not self.at_risk:
            return
        pages = self.at_risk.pop(self.random.randrange(len(self.at_risk)))
        pool = self.bench.engine._pages.pool
        assert not any(pool.references(page) or pool.leases(page) or pool.is_hashed(page) for page in pages)
        self.bench.kv_pages[list(pages)] = -1.0
        self.bench.engine.pages_settled(pages)

    def say(self, action: str, reader: Reader) -> None:
        engine, job = self.bench.engine, reader.job
        if action == "release":
            engine.release(job)
        elif action == "abandon":
            engine.abandon(job)
        elif action == "renew":
            engine.renew(job)
        elif action == "settle" and job.state in (JobState.ENDED, JobState.DONE):
            engine.settled(job.reader, [job.lease_key])
        elif action == "media":
            engine.media_arrived(job, {0: torch.zeros(1, HIDDEN)})


@pytest.mark.parametrize("seed", range(30))
def test_every_page_comes_back_and_what_was_announced_is_right(seed):
    schedule = Schedule(seed)
    for _ in range(200):
        schedule.act()
        schedule.bench.engine._pages.pool.check_integrity()
    for reader in schedule.readers:
        reader.refusal()
        if "Done" in reader.kinds():
            assert sorted(reader.ready) == list(range(reader.job.reader_cached_pages, reader.job.num_pages))
        schedule.bench.engine.abandon(reader.job)
        schedule.bench.engine.settled(reader.job.reader, [reader.job.lease_key])
    while schedule.ended_reads < len(schedule.bench.source.orders):
        schedule.end_read()
    while schedule.at_risk:
        schedule.settle_pages()
    schedule.bench.check_free()


def test_the_schedules_read_from_sources_in_all_ways():
    results = {"whole": 0, "in part": 0, "too late": 0}
    for seed in range(30):
        schedule = Schedule(seed)
        for _ in range(200):
            schedule.act()
        for job, _ in schedule.bench.source.orders[: schedule.ended_reads]:
            results["too late"] += job in schedule.bench.source.stopped
            results["whole"] += job.source_tokens == 64 * job.reader_cached_pages > 0
            results["in part"] += 0 < job.source_tokens < 64 * job.reader_cached_pages
    assert min(results.values()) >= 3, results
