"""Whatever readers do in whatever order: every page comes back, and what was announced is right."""

from __future__ import annotations

import random
import time

import pytest
import torch

from services.prefill.job import JobState
from tests.support.decode_bench import medium, prompt_of
from tests.support.fake_runner import HIDDEN
from tests.support.prefill_bench import PrefillBench, Reader

READERS = ("decode-a", "decode-b")
ACTIONS = ("step", "submit", "release", "abandon", "settle", "media", "renew", "sleep", "gone")
WEIGHTS = (10, 4, 3, 2, 3, 2, 2, 0.3, 0.3)


class Schedule:
    """Random words of two readers over a small pool with short leases."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.bench = PrefillBench(6, chunk_tokens=64, lease_s=0.02 if seed % 2 else 60.0)
        self.readers: list[Reader] = []
        self.over: set[int] = set()

    def act(self) -> None:
        action = self.random.choices(ACTIONS, WEIGHTS)[0]
        engine = self.bench.engine
        if action == "step":
            engine.step()
        elif action == "submit":
            self.submit()
        elif action == "sleep":
            time.sleep(0.01)
        elif action == "gone":
            name = self.random.choice(READERS)
            engine.reader_gone(name)
            engine.reader_joined(name)
        elif self.readers:
            self.say(action, self.random.choice(self.readers))

    def submit(self) -> None:
        length = self.random.choice([1, 63, 64, 65, 130, 300])
        reader = self.bench.submit(
            prompt_of(length, self.random.choice([0, 1])),
            reader=self.random.choice(READERS),
            cached_pages=self.random.choice([0, 0, 1, 2]),
            media=[medium(length - 1, 1)] if self.random.random() < 0.2 else [],
        )
        self.readers.append(reader)

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
        schedule.bench.engine._pool.check_integrity()
    for reader in schedule.readers:
        reader.refusal()
        if "Done" in reader.kinds():
            assert sorted(reader.ready) == list(range(reader.job.reader_cached_pages, reader.job.num_blocks))
        schedule.bench.engine.abandon(reader.job)
        schedule.bench.engine.settled(reader.job.reader, [reader.job.lease_key])
    schedule.bench.check_free()
