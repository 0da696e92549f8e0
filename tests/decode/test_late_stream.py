"""A decode engine over a GPU that works late: READs and readers may come while anything is still pending."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from services.common.errors import Cancelled, NotFound, TransferFailed
from services.decode.prompts.fetch import FetchOrder, FetchResult
from services.decode.request import Prompt, Request
from services.decode.token_stepper import SingleTokenStepper
from services.engine.leases.lease_table import Lease
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.scores import Scoring
from tests.support.decode_bench import Bench, RecordedIO, medium
from tests.support.fake_runner import VOCAB, greedy, read_context, write_context
from tests.support.fake_scores import expected_rows, rows_of, scores_of
from tests.support.late_model import late_runner
from tests.support.late_stream import LateStream

PAGES = 7
LENGTHS = (1, 20, 63, 64, 65, 100, 129, 150)


class EarlyReads(RecordedIO):
    """The first bytes of a READ are there as soon as it is ordered."""

    bench: Bench

    def start_fetch(self, prompt: Prompt, order: FetchOrder) -> None:
        super().start_fetch(prompt, order)
        self.bench.kv_pages[list(order.pages)] = -1.0


@dataclass
class Asked:
    """A request and what it should get."""

    request: Request
    expected: list[int]
    scoring: Scoring | None
    cancelled: bool = False


class Schedule:
    """What an engine may meet, over a pool that is too small. `number` decides what an action leaves open."""

    def __init__(self, stream: LateStream, *, ahead: bool) -> None:
        io = EarlyReads()
        self.stream = stream
        self.bench = io.bench = Bench(
            PAGES,
            runner=lambda kv_pages: late_runner(stream, kv_pages),
            stepper=lambda runner, _, masks: SingleTokenStepper(
                runner, Sampler(VOCAB, _no_draw), masks, overlaps=ahead
            ),
            io=io,
            max_running=5,
            chunk_tokens=64,
        )
        self.bench.engine.lending.reader_joined("prefill-a")
        self.asked: list[Asked] = []
        self.reads: list[tuple[Prompt, FetchOrder]] = []
        self.seen = self.keys = 0
        self.at_risk: list[tuple[int, ...]] = []
        self.leases: list[tuple[Lease, list[int]]] = []

    def act(self, action: str, number: int, done: int) -> None:
        """Carries out an action; by its end the GPU has done `done` of the pending operations."""
        getattr(self, action)(number)
        self.reads += self.bench.io.orders[self.seen :]
        self.seen = len(self.bench.io.orders)
        self.check()
        self.stream.progress(done)

    def check(self) -> None:
        """What is pending touches no page that may be given away, read into, or evicted."""
        pool = self.bench.engine._pages.pool
        landing = {page for _, order in self.reads for page in order.pages}
        for operation in self.stream.pending:
            for page in operation.pages:
                assert pool.references(page), f"{operation.name} is pending on page {page}, held by nobody"
                assert page not in landing, f"{operation.name} is pending on page {page}, which is read into"
        for lease, tokens in self.leases:
            self.check_lent(lease, tokens)

    def check_lent(self, lease: Lease, tokens: list[int]) -> None:
        """A reader may read the pages at any moment of the lease."""
        assert read_context(self.bench.kv_pages, lease.pages, len(tokens)) == tokens

    def step(self, number: int) -> None:
        self.bench.engine.step()

    def submit(self, number: int) -> None:
        length = LENGTHS[number % len(LENGTHS)]
        prompt = [(number % 2 + place * 3) % 64 for place in range(length)]
        max_tokens = (1, 3, 9, 30)[number // 3 % 4]
        scoring = Scoring(1, 2) if number % 7 == 0 and length > 1 else None
        request = self.bench.request(
            prompt,
            max_tokens,
            n=(1, 1, 2, 3)[number // 5 % 4],
            prefill=["a"] * (number // 11 % 2),
            sampling={"logprobs": True, "top_logprobs": 2} if number % 6 == 0 else {},
            scoring=scoring,
            media=[medium(length - 1, 1)] if number % 4 == 3 and length > 100 else [],  # never to be had
        )
        self.bench.engine.submit(request)
        self.asked.append(Asked(request, greedy(prompt, max_tokens), scoring))

    def cancel(self, number: int) -> None:
        if self.asked:
            asked = self.asked[number % len(self.asked)]
            asked.cancelled = True
            self.bench.engine.cancel(self.bench.session, asked.request.handle)

    def land(self, number: int) -> None:
        """A fetch ends, well or not."""
        if not self.reads:
            return
        prompt, order = self.reads.pop(number % len(self.reads))
        if prompt in self.bench.io.stopped or number % 5 == 0:
            error = Cancelled("stopped") if prompt in self.bench.io.stopped else TransferFailed("bad luck")
            risky = order.pages[: number % (len(order.pages) + 1)]
            if risky:
                self.at_risk.append(risky)
            self.bench.engine.fetch_ended(prompt, FetchResult(error, pages_at_risk=risky))
            return
        write_context(self.bench.kv_pages, order.pages, order.token_ids, order.cached_pages)
        scoring = prompt.request.scoring
        scores = [scores_of(prompt.request.prompt_ids, scoring)] if scoring is not None else []
        self.bench.engine.fetch_ended(prompt, FetchResult(None, scores=tuple(scores)))

    def settle(self, number: int) -> None:
        """The last bytes of a failed READ land."""
        if self.at_risk:
            pages = self.at_risk.pop(number % len(self.at_risk))
            self.bench.kv_pages[list(pages)] = -1.0
            self.bench.engine.pages_settled(pages)

    def lend(self, number: int) -> None:
        """A prefill worker reads the pages of a prompt and its answer, as far as they are cached."""
        if not self.asked:
            return
        asked = self.asked[number % len(self.asked)]
        context = asked.request.prompt_ids + asked.expected
        hashes = self.bench.engine._pages.hashes(asked.request, context, len(context))
        with contextlib.suppress(NotFound):
            self.keys += 1
            lease = self.bench.engine.lending.lease("prefill-a", self.keys, hashes)
            tokens = context[: 64 * len(lease.pages)]
            self.check_lent(lease, tokens)
            self.leases.append((lease, tokens))

    def release(self, number: int) -> None:
        if self.leases:
            lease, _ = self.leases.pop(number % len(self.leases))
            self.bench.engine.lending.release(lease.id)

    def flush(self, number: int) -> None:
        self.bench.engine.flush()

    def wind_down(self) -> None:
        for number, asked in enumerate(self.asked):
            if asked.request.media:
                self.act("cancel", number, 0)
        for _ in range(2000):
            for action in ("step", "land", "settle", "release"):
                self.act(action, 1, 0)
            if not (self.bench.session.requests or self.reads or self.at_risk or self.leases):
                break
        else:
            raise AssertionError("it does not come to an end")
        self.bench.check_free()
        self.stream.finish()
        for asked in self.asked:
            self.check_heard(asked)

    def check_heard(self, asked: Asked) -> None:
        heard = self.bench.heard[asked.request.handle]
        for choice in asked.request.choices:
            tokens = heard.tokens.get(choice, [])
            assert tokens == asked.expected[: len(tokens)]
            if heard.finish(choice) == "LENGTH":
                assert tokens == asked.expected
                if asked.request.spec.logprobs:
                    assert [round(logprob, 3) for logprob, _ in heard.logprobs[choice]] == [0.0] * len(tokens)
            else:
                assert asked.cancelled or heard.errors
        if asked.scoring is not None and heard.finish() == "LENGTH":
            assert rows_of(heard.scores) == expected_rows(asked.request.prompt_ids, asked.scoring)


def _no_draw(logits, states):
    raise AssertionError("all requests are greedy")


ACTIONS: dict[str, Callable[[Schedule, int], None]] = {
    name: getattr(Schedule, name)
    for name in ("step", "submit", "cancel", "land", "settle", "lend", "release", "flush")
}
MOVES = st.tuples(
    st.sampled_from(["step"] * 8 + ["submit"] * 4 + ["land"] * 2 + ["lend"] * 2 + list(ACTIONS)),
    st.integers(0, 999),
    st.sampled_from([0, 0, 0, 1, 5, 25, 1000]),
)


CANCELLED_COPY = [
    ("submit", 5, 0),
    *[("step", 0, 1000)] * 8,
    ("submit", 31, 0),
    ("step", 0, 0),
    ("cancel", 1, 0),
]
"""A turn of 100 tokens; one of 150, which waits for an image behind the copied tail, and leaves."""
PHASES = (Phase.explicit, Phase.generate)  # to shrink an example takes minutes


@pytest.mark.parametrize("ahead", [False, True], ids=["in step", "ahead"])
@settings(max_examples=20, deadline=None, derandomize=True, phases=PHASES)
@example(moves=CANCELLED_COPY)
@given(moves=st.lists(MOVES, min_size=10, max_size=50))
def test_whatever_is_pending_no_page_is_given_away_and_no_result_is_taken_too_early(ahead, moves):
    stream = LateStream()
    with stream.installed():
        schedule = Schedule(stream, ahead=ahead)
        for action, number, done in moves:
            schedule.act(action, number, done)
        schedule.wind_down()
