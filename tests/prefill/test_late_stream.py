"""A prefill engine over a GPU that works late: readers and READs may come while anything is still pending."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from services.engine.sampling.scores import Scoring
from services.prefill.events import Event, Ready, Scored
from services.prefill.job import Job, JobState
from tests.support.decode_bench import prompt_of
from tests.support.fake_scores import expected_rows, rows_of
from tests.support.late_model import late_runner
from tests.support.late_stream import LateStream
from tests.support.prefill_bench import PrefillBench, Reader

PAGES = 6
LENGTHS = (1, 63, 64, 65, 130, 300)
ACTIONS = ("step", "submit", "release", "abandon", "settle", "leave", "read", "land", "flush")


class Schedule:
    """What an engine may meet, over a small pool. `number` decides what an action leaves open."""

    def __init__(self, stream: LateStream) -> None:
        self.stream = stream
        self.bench = PrefillBench(
            PAGES,
            chunk_tokens=64,
            checksums=0.0,  # as on a GPU
            make_runner=lambda kv_pages: late_runner(stream, kv_pages),
        )
        self.readers: list[Reader] = []
        self.ended_reads = 0
        self.at_risk: list[tuple[int, ...]] = []
        self.broken_off = 0

    def act(self, action: str, number: int, done: int) -> None:
        """Carries out an action; by its end the GPU has done `done` of the pending operations."""
        getattr(self, action)(number)
        self.check()
        self.stream.progress(done)

    def check(self) -> None:
        """What is pending touches no page that may be given away, read into, or evicted."""
        pool = self.bench.engine._pages.pool
        orders = self.bench.source.orders[self.ended_reads :]
        landing = {page for _, order in orders for page in order.pages}
        for operation in self.stream.pending:
            for page in operation.pages:
                assert pool.references(page), f"{operation.name} is pending on page {page}, held by nobody"
                assert page not in landing, f"{operation.name} is pending on page {page}, which is read into"

    def step(self, number: int) -> None:
        before = len(self.bench.source.orders)
        self.bench.engine.step()
        for _, order in self.bench.source.orders[before:]:
            self.bench.kv_pages[list(order.pages)] = -1.0  # the first bytes may be there at once

    def submit(self, number: int) -> None:
        length = LENGTHS[number % len(LENGTHS)]
        cached_pages = (0, 0, 1, 2)[number // 2 % 4]
        has_source = cached_pages * 64 < length and number % 5 < 2
        scoring = Scoring(1, 2) if number % 7 == 0 and length > 1 and not cached_pages else None
        self.readers.append(
            self.bench.submit(
                prompt_of(length, number // 3 % 3),
                reader="decode-a",
                cached_pages=cached_pages,
                source="decode:1" if has_source and scoring is None else "",
                scoring=scoring,
                next_token=5,
            )
        )

    def leave(self, number: int) -> None:
        """All readers leave before the first, second or third announcement of the next pass."""
        left = number % 3

        def announced(job: Job, event: Event) -> None:
            nonlocal left
            left -= isinstance(event, Ready)
            if left <= 0:
                give_up()

        def give_up() -> None:
            for reader in self.readers:
                reader.job.abandoned = True

        if not left:
            give_up()
        for reader in self.readers:
            take = reader.take
            reader.job.emit = lambda event, take=take, job=reader.job: (take(event), announced(job, event))
        self.step(number)
        for reader in self.readers:
            reader.job.emit = reader.take
            if reader.job.abandoned:
                self.broken_off += reader.job.state is JobState.COMPUTING
                self.bench.engine.abandon(reader.job)
                self.bench.engine.settled(reader.job.reader, [reader.job.lease_key])

    def release(self, number: int) -> None:
        if self.readers:
            self.bench.engine.release(self.readers[number % len(self.readers)].job)

    def abandon(self, number: int) -> None:
        if self.readers:
            self.bench.engine.abandon(self.readers[number % len(self.readers)].job)

    def settle(self, number: int) -> None:
        for reader in self.readers:
            if reader.job.state in (JobState.ENDED, JobState.DONE):
                self.bench.engine.settled(reader.job.reader, [reader.job.lease_key])

    def read(self, number: int) -> None:
        """The oldest read of a source ends, well or not."""
        if self.ended_reads == len(self.bench.source.orders):
            return
        _, order = self.bench.source.orders[self.ended_reads]
        arrived = number % (len(order.pages) + 1)
        at_risk = number // 7 % (len(order.pages) - arrived + 1)
        self.at_risk.append(self.bench.end_read(arrived, at_risk, self.ended_reads))
        self.ended_reads += 1

    def land(self, number: int) -> None:
        """The last bytes of an ended read land."""
        if self.at_risk:
            pages = self.at_risk.pop(number % len(self.at_risk))
            self.bench.kv_pages[list(pages)] = -1.0
            self.bench.engine.pages_settled(pages)

    def flush(self, number: int) -> None:
        self.bench.engine.flush()

    def wind_down(self) -> None:
        self.bench.engine.reader_gone("decode-a")
        self.bench.engine.reader_joined("decode-a")
        while self.ended_reads < len(self.bench.source.orders):
            self.act("read", 0, 0)
        while self.at_risk:
            self.act("land", 0, 0)
        self.bench.check_free()
        self.stream.finish()
        for reader in self.readers:
            scored = [event.scores for event in reader.all(Scored)]
            if scored and reader.job.state is JobState.DONE:
                prompt = [*reader.job.token_ids, reader.job.next_token_id]
                assert rows_of(scored) == expected_rows(prompt, reader.job.scoring)


MOVES = st.tuples(
    st.sampled_from(["step"] * 6 + ["submit"] * 4 + ["read"] * 2 + ["leave"] * 2 + list(ACTIONS)),
    st.integers(0, 999),
    st.sampled_from([0, 0, 0, 1, 5, 25, 1000]),
)
PHASES = (Phase.explicit, Phase.generate)  # to shrink an example takes minutes


@settings(max_examples=40, deadline=None, derandomize=True, phases=PHASES)
@given(moves=st.lists(MOVES, min_size=10, max_size=60))
def test_whatever_is_pending_no_page_is_given_away_and_what_is_announced_is_written(moves):
    stream = LateStream()
    with stream.installed():
        schedule = Schedule(stream)
        for action, number, done in moves:
            schedule.act(action, number, done)
        schedule.wind_down()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_pages_of_a_pass_that_nobody_waits_for_are_free_only_when_the_gpu_writes_no_more(number):
    stream = LateStream()
    with stream.installed():
        schedule = Schedule(stream)
        schedule.act("submit", 17, 0)
        schedule.act("leave", number, 0)
        assert schedule.broken_off == 1
        counts = schedule.bench.engine._pages.counts()
        assert counts.free + counts.cached == PAGES
        schedule.wind_down()
