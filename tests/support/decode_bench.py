"""A decode engine on the test's own thread, over a model without weights and simulated prefill workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

import torch

from perigee.v1 import sampling_pb2
from services.common.errors import PerigeeError
from services.common.telemetry.tracer import Tracer
from services.common.telemetry.worker_metrics import TextWorkerMetrics
from services.decode.constraint.mask_threads import MaskThreads
from services.decode.engine import DecodeEngine
from services.decode.limits import DecodeLimits
from services.decode.prompts.fetch import FetchOrder, FetchResult
from services.decode.request import Delta, Prompt, Request, RequestStats, Session
from services.decode.request_measures import STAGES
from services.decode.stepper import Stepper
from services.decode.token_stepper import SingleTokenStepper
from services.engine.kv_cache.page_manager import PageManager
from services.engine.media import Medium
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.scores import Scores
from services.engine.sampling.spec import SamplingSpec
from tests.support.fake_runner import HIDDEN, VOCAB, FakeRunner, LateRunner, fake_pages, write_context
from tests.support.fake_scores import scores_of

FINISHES = sampling_pb2.FinishReason
MakeStepper = Callable[[FakeRunner, Sampler, MaskThreads], Stepper]


@dataclass
class Heard:
    """Everything that was received for one request, by choice."""

    tokens: dict[int, list[int]] = field(default_factory=dict)
    finishes: dict[int, list[str]] = field(default_factory=dict)
    errors: list[PerigeeError] = field(default_factory=list)
    stats: list[RequestStats] = field(default_factory=list)
    logprobs: dict[int, list[tuple[float | None, object]]] = field(default_factory=dict)
    """For each token, its log-probability and those of the likeliest ones."""
    scores: list[Scores] = field(default_factory=list)
    """The scores of the prompt's tokens, piece by piece."""
    cut_at: list[int] = field(default_factory=list)
    """Positions of the tokens of choice 0 that a grammar put there."""

    def take(self, delta: Delta) -> None:
        assert delta.choice not in self.finishes, "news after the end"
        if delta.scores is not None:
            assert (self.tokens, self.finishes) == ({}, {}), "scores after the first news"
            self.scores.append(delta.scores)
            return
        if delta.is_cut and delta.choice == 0:
            self.cut_at.append(len(self.tokens.get(0, [])))
        self.tokens.setdefault(delta.choice, []).extend(token.token_id for token in delta.tokens)
        told = [(token.logprob, token.top) for token in delta.tokens]
        self.logprobs.setdefault(delta.choice, []).extend(told)
        if delta.finish:
            name = FINISHES.Name(delta.finish).removeprefix("FINISH_REASON_")
            self.finishes.setdefault(delta.choice, []).append(name)
        if delta.error is not None:
            self.errors.append(delta.error)
        if delta.stats is not None:
            self.stats.append(delta.stats)

    def finish(self, choice: int = 0) -> str | None:
        """How a choice ended, or None; it must end only once."""
        finishes = self.finishes.get(choice, [])
        assert len(finishes) <= 1
        return finishes[0] if finishes else None


class RecordedIO:
    """Records the engine's calls; tests answer them."""

    def __init__(self) -> None:
        self.orders: list[tuple[Prompt, FetchOrder]] = []
        self.stopped: list[Prompt] = []
        self.media: list[tuple[Prompt, tuple[int, ...]]] = []
        self.stopped_media: list[Prompt] = []

    def start_fetch(self, prompt: Prompt, order: FetchOrder) -> None:
        self.orders.append((prompt, order))

    def stop_fetch(self, prompt: Prompt) -> None:
        self.stopped.append(prompt)

    def start_media(self, prompt: Prompt, indices: tuple[int, ...]) -> None:
        self.media.append((prompt, indices))

    def stop_media(self, prompt: Prompt) -> None:
        self.stopped_media.append(prompt)


class Bench:
    """The engine, one session, and everything the session has received."""

    def __init__(
        self, num_pages: int, *, lease_s: float = 60.0, ahead: bool = False, late: bool = False,
        io: RecordedIO | None = None, clock: Callable[[], float] = monotonic,
        runner: type[FakeRunner] | None = None, vocab_size: int = VOCAB,
        stepper: MakeStepper | None = None, tracer: Tracer | None = None, **limits: int,
    ) -> None:  # fmt: skip
        """`ahead`: launches the next step before the host knows the result of the last one. `late` (implied
        by `ahead`): the device does its work at the last possible moment. `stepper`: makes another one.
        """
        self.clock = clock
        self.serving: list[bool] = []
        self.kv_pages = fake_pages(num_pages)
        self.runner = (runner or (LateRunner if ahead or late else FakeRunner))(self.kv_pages)
        self.io = RecordedIO() if io is None else io
        defaults = {
            "max_running": 16,
            "max_waiting": 16,
            "chunk_tokens": 128,
            "local_prefill_tokens": 16,
            "headroom_pages": 0,
            "context_length": num_pages * 64,
        }
        self.masks = MaskThreads()
        self.metrics = TextWorkerMetrics(STAGES)
        make = stepper or partial(SingleTokenStepper, overlaps=ahead)
        self.stepper = make(self.runner, Sampler(vocab_size), self.masks)
        self.engine = DecodeEngine(
            self.stepper,
            PageManager(num_pages, self.runner),
            self.masks,
            DecodeLimits(**(defaults | limits), lease_s=lease_s),
            self.io,
            self.serving.append,
            metrics=self.metrics,
            tracer=tracer,
            clock=clock,
        )
        self.heard: dict[int, Heard] = {}
        self.waiting: list[int] = []
        """Handles of requests that were reported as waiting, in order."""
        self.accepted: list[int] = []
        """Handles of requests that were reported as accepted, in order."""
        self.session = Session(self._take)
        self.handles = 0

    def _take(self, deltas: list[Delta]) -> None:
        news = [delta for delta in deltas if not delta.waits and not delta.accepts]
        self.waiting += [delta.handle for delta in deltas if delta.waits]
        for delta in deltas:
            if delta.accepts:
                heard = self.heard[delta.handle]
                assert (heard.tokens, heard.finishes) == ({}, {}), "accepted after the first news"
                self.accepted.append(delta.handle)
        once = [(delta.handle, delta.choice) for delta in news if delta.error is None]
        assert len(set(once)) == len(once), "a choice has news of two steps in one batch"
        for delta in news:
            self.heard[delta.handle].take(delta)

    def request(self, prompt: Sequence[int], max_tokens: int = 4, **options) -> Request:
        """A request that is not submitted yet."""
        self.handles += 1
        handle = options.pop("handle", self.handles)
        session = options.pop("session", self.session)
        first = options.pop("first_choice", 0)
        if session is self.session:
            self.heard.setdefault(handle, Heard())
        return Request(
            session=session,
            handle=handle,
            request_id=f"test-{handle}",
            prompt_ids=list(prompt),
            output_ids=list(options.pop("outputs", ())),
            spec=SamplingSpec(
                stop_token_ids=frozenset(options.pop("stop", ())),
                **({"temperature": 0.0} | options.pop("sampling", {})),
            ),
            seed=1,
            choices=range(first, first + options.pop("n", 1)),
            max_tokens=max_tokens,
            media=tuple(options.pop("media", ())),
            cache_salt="",
            prefill_addresses=tuple(options.pop("prefill", ())),
            own_address=options.pop("own_address", ""),
            scoring=options.pop("scoring", None),
            deadline=self.clock() + options.pop("timeout_s", 60.0),
            **options,
        )

    def submit(self, prompt: Sequence[int], max_tokens: int = 4, **options) -> Heard:
        """Submits a request; returns what will be received for it."""
        request = self.request(prompt, max_tokens, **options)
        self.engine.submit(request)
        return self.heard.get(request.handle, Heard())

    def run(self, steps: int = 1000) -> None:
        """Steps until the engine is idle."""
        for _ in range(steps):
            if not self.engine.step():
                return
        raise AssertionError("the engine does not come to rest")

    def fill(self, number: int = -1, reused_tokens: int | None = None) -> None:
        """Lets a prefill worker fill the pages of an order, and ends the fetch well.

        It computed all but the first `reused_tokens`, by default all but what was cached here.
        """
        prompt, order = self.io.orders[number]
        write_context(self.kv_pages, order.pages, order.token_ids, order.cached_pages)
        reused = 64 * order.cached_pages if reused_tokens is None else reused_tokens
        computed = len(order.token_ids) - reused
        scores = ()
        if order.scoring is not None:
            scores = (scores_of([*order.token_ids, order.next_token_id], order.scoring),)
        result = FetchResult(None, computed_tokens=computed, bytes_read=64 * len(order.pages), scores=scores)
        self.engine.fetch_ended(prompt, result)

    def fail(self, error: PerigeeError, at_risk: int = 0, number: int = -1) -> tuple[int, ...]:
        """Fails the fetch of an order with its first `at_risk` pages still at risk; returns these."""
        prompt, order = self.io.orders[number]
        self.engine.fetch_ended(prompt, FetchResult(error, pages_at_risk=order.pages[:at_risk]))
        return order.pages[:at_risk]

    def give_media(self, value: float = 3.0, number: int = -1) -> None:
        """Delivers the requested media; every row starts with `value`."""
        prompt, indices = self.io.media[number]
        media = prompt.request.media
        rows = {index: torch.full((media[index].num_tokens, HIDDEN), value) for index in indices}
        self.engine.media_arrived(prompt, rows)

    def check_free(self) -> None:
        """Checks that nobody holds a page and that the pool's counts are consistent."""
        while self.engine.step():
            pass
        counts = self.engine.load.pages
        assert (counts.used, counts.leased, counts.quarantined) == (0, 0, 0), counts
        assert self.engine.load.integrity_failures == 0
        self.engine._pages.check_integrity()
        assert (self.engine.load.running, self.engine.load.waiting) == (0, 0)


def medium(offset: int, num_tokens: int, name: int = 1) -> Medium:
    """An image at a place of a prompt."""
    return Medium(bytes([name]) * 32, offset, num_tokens, "vision:1", "vision-a")


def prompt_of(length: int, seed: int = 0) -> list[int]:
    """Arbitrary tokens, different for different seeds."""
    return [(seed * 17 + place * 5 + place // 64) % 64 for place in range(length)]
