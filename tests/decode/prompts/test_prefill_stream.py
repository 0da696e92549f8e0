"""Fetches from whole prefill workers, one process, over real gRPC and the in-memory transport."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from typing import Any

import pytest
import torch

from perigee.v1 import prefill_pb2, scores_pb2
from services.common.errors import Cancelled, InvalidRequest, MediaLost, TransferFailed, Unavailable
from services.decode.prompts.fetch import FetchOrder, FetchResult
from services.decode.prompts.remote_prefill import RemotePrefill
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from services.engine.leases.lease_clock import LeaseClock
from services.engine.media import Medium
from services.engine.sampling.scores import Scoring
from services.engine.serving.loop import EngineLoop
from services.prefill.events import Done, Ready, Released, Scored
from services.prefill.server import to_proto
from tests.support.decode_bench import medium, prompt_of
from tests.support.fake_runner import HIDDEN, NUM_LAYERS, fake_pages, read_context
from tests.support.fake_scores import expected_rows, rows_of, scores_of
from tests.support.manual_clock import ManualClock
from tests.support.owner import peer_directory, transfer_thread
from tests.support.prefill_worker import PrefillWorker
from tests.support.waiting import let_tasks_run, until

PAGE_BYTES = NUM_LAYERS * 64 * 4 * 4


class Suite:
    """A reader with 16 pages, and prefill workers; leases and silence are measured by `clock`."""

    def __init__(self) -> None:
        self.fabric = MemoryFabric()
        self.clock = ManualClock()
        self.pages = fake_pages(16)
        self.thread = transfer_thread(
            "reader", self.fabric, self.pages, torch.zeros(2, 64, HIDDEN), self.clock
        )
        self.peers = peer_directory("reader-1", self.thread, self.pages)
        self.ends: list[tuple[object, FetchResult]] = []
        self.admitted: list[object] = []
        self.settled: list[int] = []
        self.workers: list[PrefillWorker] = []
        self.remote = self.make_remote()

    def make_remote(self, silence_s: float = 5.0) -> RemotePrefill:
        return RemotePrefill(
            self.peers,
            self.thread,
            NUM_LAYERS,
            silence_s,
            verifies=True,
            on_admitted=self.admitted.append,
            on_end=lambda prompt, result: self.ends.append((prompt, result)),
            on_settled=self.settled.extend,
            clock=self.clock,
        )

    async def worker(self, name: str = "prefill-a", **options) -> PrefillWorker:
        worker = PrefillWorker(name, self.fabric, clock=self.clock, **options)
        await worker.start()
        self.workers.append(worker)
        return worker

    def start(
        self, address: str, tokens: list[int], first_page: int = 0, cached_pages: int = 0,
        media: tuple[Medium, ...] = (), scoring: Scoring | None = None,
    ) -> Any:  # fmt: skip
        num_pages = -(-len(tokens) // 64) - cached_pages
        pages = tuple(range(first_page, first_page + num_pages))
        prompt = object()
        order = FetchOrder(
            address, "test", tuple(tokens), media, "", cached_pages, pages, scoring=scoring, next_token_id=9
        )
        self.remote.start(prompt, order)
        return prompt

    def has_posted(self) -> bool:
        """Whether a read is under way, not only accepted."""
        return self.fabric.agents["reader"].num_posted > 0

    async def result(self, prompt: object) -> FetchResult:
        await until(lambda: any(other is prompt for other, _ in self.ends))
        results = [result for other, result in self.ends if other is prompt]
        assert len(results) == 1
        return results[0]

    async def close(self) -> None:
        self.fabric.held.clear()
        await self.peers.close()
        for worker in self.workers:
            await worker.stop()
        self.thread.close()


@pytest.fixture
async def suite():
    suite = Suite()
    yield suite
    await suite.close()


def hold(loop: EngineLoop) -> threading.Event:
    """Keeps an engine thread busy, as a long pass does, until the event is set."""
    gate = threading.Event()
    loop.post(lambda: gate.wait(10))
    return gate


@pytest.mark.parametrize("length", [1, 64, 65, 300])
async def test_the_pages_of_a_prompt_arrive_whole_and_the_lease_is_released(suite, length):
    worker = await suite.worker()
    result = await suite.result(suite.start(worker.address, prompt_of(length), first_page=3))
    num_pages = -(-length // 64)
    assert result.error is None
    assert len(suite.admitted) == 1
    assert result.bytes_read == num_pages * PAGE_BYTES
    assert 0 <= result.bytes_before_done <= result.bytes_read
    assert read_context(suite.pages, range(3, 3 + num_pages), length) == prompt_of(length)
    await until(worker.is_free)
    assert suite.settled == []


async def test_pages_are_not_trusted_before_the_worker_has_confirmed_the_end_of_their_lease(
    suite, monkeypatch
):
    """One that took its reader for gone may have used them again by the time they were read."""
    monkeypatch.setattr("services.decode.prompts.prefill_stream._RELEASE_TIMEOUT_S", 0.2)
    worker = await suite.worker()

    async def deaf(job, requests):
        await asyncio.Event().wait()

    monkeypatch.setattr(worker.servicer, "_receive", deaf)
    result = await suite.result(suite.start(worker.address, prompt_of(300)))
    assert isinstance(result.error, TransferFailed)
    assert "did not confirm" in result.error.message
    await until(worker.is_free)


@pytest.mark.parametrize("generation", [None, 0, 99])
async def test_a_stream_that_just_ends_or_releases_another_lease_confirms_nothing(
    suite, monkeypatch, generation
):
    worker = await suite.worker()

    def answer_otherwise(job, lease_id, its_generation):
        job.emit(Released(generation))

    def otherwise_to_proto(event, renewals):
        if isinstance(event, Released) and generation is None:
            return prefill_pb2.PrefillResponse()
        return to_proto(event, renewals)

    monkeypatch.setattr(worker.engine.leases, "answer_release", answer_otherwise)
    monkeypatch.setattr("services.prefill.server.to_proto", otherwise_to_proto)
    result = await suite.result(suite.start(worker.address, prompt_of(300)))
    assert isinstance(result.error, TransferFailed)
    assert "did not confirm that it held the lease" in result.error.message
    await until(worker.is_free)


async def test_a_release_is_confirmed_while_the_engine_is_busy(suite, monkeypatch):
    worker = await suite.worker()
    await suite.result(suite.start(worker.address, prompt_of(100)))
    gate, step = threading.Event(), worker.engine.step

    def step_and_stay() -> bool:
        goes_on = step()
        if worker.engine.load.pages.leased:
            gate.wait(10)
        return goes_on

    monkeypatch.setattr(worker.loop, "_step", step_and_stay)
    assert (await suite.result(suite.start(worker.address, prompt_of(100)))).error is None
    assert worker.engine.load.pages.leased
    gate.set()
    await until(worker.is_free)


async def test_only_missing_pages_are_read_and_computed_tokens_reported(suite):
    worker = await suite.worker()
    await suite.result(suite.start(worker.address, prompt_of(300)))
    before = suite.pages.clone()
    again = await suite.result(suite.start(worker.address, prompt_of(300), 10, cached_pages=2))
    assert (again.error, again.computed_tokens, again.bytes_read) == (None, 44, 3 * PAGE_BYTES)
    whole = [0, 1, 10, 11, 12]
    assert read_context(suite.pages, whole, 300) == prompt_of(300)
    assert torch.equal(suite.pages[:10], before[:10])


async def test_many_fetches_at_once_do_not_mix(suite):
    workers = [await suite.worker("prefill-a"), await suite.worker("prefill-b")]
    prompts = [suite.start(workers[n % 2].address, prompt_of(100, n), first_page=2 * n) for n in range(8)]
    for n, prompt in enumerate(prompts):
        assert (await suite.result(prompt)).error is None
        assert read_context(suite.pages, [2 * n, 2 * n + 1], 100) == prompt_of(100, n)


async def test_an_address_without_a_worker_is_unavailable(suite):
    worker = await suite.worker()
    await worker.owner.stop()
    result = await suite.result(suite.start(worker.address, prompt_of(100)))
    assert isinstance(result.error, Unavailable)
    assert worker.address in result.error.message
    assert result.pages_at_risk == ()


async def test_a_worker_that_takes_its_reader_for_gone_is_unavailable(suite, monkeypatch):
    """So it is between the break of a connection and our hearing of it, and decode can compute the prompt."""
    worker = await suite.worker()
    await suite.peers.get(worker.address, "prefill")
    readers = worker.owner.servicer.readers
    monkeypatch.setattr(
        worker.servicer, "_authenticate", lambda reader, token: readers.authenticate("", token)
    )
    result = await suite.result(suite.start(worker.address, prompt_of(100)))
    assert isinstance(result.error, Unavailable)
    assert "no open handshake" in result.error.message


TAMPERED = [
    ("admitted", lambda message: message.pages.__setitem__(0, 16)),
    ("admitted", lambda message: message.pages.__setitem__(1, 2**32 - 1)),
    ("admitted", lambda message: message.pages.__setitem__(1, 2**31)),  # entry 0 if it were cut to 32 bits
    ("admitted", lambda message: message.pages.append(0)),
    ("admitted", lambda message: message.pages.pop()),
    ("ready", lambda message: setattr(message, "first_page", message.first_page + 2)),
    ("ready", lambda message: setattr(message, "first_page", 2**32 - 1)),
    ("ready", lambda message: setattr(message, "page_count", 3)),
    ("ready", lambda message: setattr(message, "first_page", 0)),
    ("ready", lambda message: setattr(message, "end_layer", NUM_LAYERS + 1)),
    ("ready", lambda message: setattr(message, "first_layer", 0)),
]
"""What is done to each message of a kind; page 16 is the first that the offer does not have."""


@pytest.mark.parametrize(("kind", "tamper"), TAMPERED)
async def test_a_tampered_grant_or_announcement_fails_the_fetch_and_touches_no_other_page(
    suite, monkeypatch, kind, tamper
):
    worker = await suite.worker()

    def tampered(event, renewals):
        message = to_proto(event, renewals)
        if message.WhichOneof("message") == kind:
            tamper(getattr(message, kind))
        return message

    monkeypatch.setattr("services.prefill.server.to_proto", tampered)
    before = suite.pages.clone()
    result = await suite.result(suite.start(worker.address, prompt_of(128), first_page=3))
    assert isinstance(result.error, TransferFailed)
    assert worker.address in result.error.message
    await until(worker.is_free)
    untouched = [page for page in range(16) if page not in (3, 4)]
    assert torch.equal(suite.pages[untouched], before[untouched])


@pytest.mark.parametrize(
    "first", [Ready(0, 1, 0, 1, ()), Ready(1, 1, 0, NUM_LAYERS, ()), Done(100, 0, 0.0, 0.0)]
)
async def test_a_worker_that_is_done_before_it_has_announced_every_page_is_not_believed(
    suite, monkeypatch, first
):
    worker = await suite.worker()
    announced = iter([first])

    def announce(job, *pages):
        for event in announced:
            job.emit(event)

    monkeypatch.setattr(worker.engine._announcer, "announce", announce)
    result = await suite.result(suite.start(worker.address, prompt_of(100)))
    assert isinstance(result.error, TransferFailed)
    assert "every layer page" in result.error.message


@pytest.mark.parametrize(
    ("length", "first", "cached_pages"), [(1, 1, 0), (300, 1, 0), (300, 200, 3), (300, 300, 4)]
)
async def test_scores_come_with_the_pages(suite, length, first, cached_pages):
    worker, scoring, tokens = await suite.worker(), Scoring(first, 2), prompt_of(length)
    result = await suite.result(
        suite.start(worker.address, tokens, cached_pages=cached_pages, scoring=scoring)
    )
    assert result.error is None
    assert rows_of(result.scores) == expected_rows([*tokens, 9], scoring)
    await until(worker.is_free)


async def test_a_worker_that_knows_no_scores_is_not_believed(suite, monkeypatch):
    worker, scoring = await suite.worker(), Scoring(1, 0)
    monkeypatch.setattr(
        worker.servicer, "_job", lambda start, emit, make=worker.servicer._job: make(without(start), emit)
    )
    result = await suite.result(suite.start(worker.address, prompt_of(100), scoring=scoring))
    assert isinstance(result.error, TransferFailed)
    assert "every score" in result.error.message
    await until(worker.is_free)


def without(start):
    start.ClearField("scoring")
    return start


SOME = scores_of(prompt_of(9), Scoring(3, 2))


@pytest.mark.parametrize(
    ("scoring", "sent"),
    [
        (None, SOME),
        (Scoring(3, 1), SOME),
        (Scoring(2, 2), SOME),
        (Scoring(4, 2), SOME),
        (Scoring(3, 2), dataclasses.replace(SOME, ranks=SOME.ranks[1:])),
        (Scoring(3, 2), scores_of(prompt_of(200), Scoring(3, 2))),
    ],
)
async def test_scores_that_were_not_asked_for_fail_the_fetch(suite, monkeypatch, scoring, sent):
    worker = await suite.worker()
    monkeypatch.setattr(worker.engine._announcer, "announce", lambda job, *pages: job.emit(Scored(sent)))
    result = await suite.result(suite.start(worker.address, prompt_of(100), scoring=scoring))
    assert isinstance(result.error, TransferFailed)
    assert worker.address in result.error.message
    await until(worker.is_free)


@pytest.mark.parametrize(
    ("first", "cached_pages", "next_token", "what"),
    [(0, 0, 9, "first_token is 0"), (64, 1, 9, "leave out scores"), (1, 0, 1 << 20, "next_token_id")],
)
async def test_a_worker_refuses_scoring_that_makes_no_sense(suite, first, cached_pages, next_token, what):
    worker = await suite.worker()
    peer = await suite.peers.get(worker.address, "prefill")
    start = prefill_pb2.PrefillStart(
        reader_incarnation=peer.reader, reader_token=peer.token, lease_key=1, token_ids=prompt_of(100),
        reader_cached_pages=cached_pages, next_token_id=next_token,
        scoring=scores_pb2.PromptScoring(first_token=first),
    )  # fmt: skip
    with pytest.raises(InvalidRequest, match=what):
        worker.servicer._job(start, lambda event: None)


async def test_layers_that_the_model_does_not_have_are_not_read_into_the_next_page(suite, monkeypatch):
    worker = await suite.worker()
    monkeypatch.setattr(
        worker.engine._announcer, "announce", lambda job, *pages: job.emit(Ready(0, 1, 0, NUM_LAYERS + 1, ()))
    )
    suite.pages[:] = 7.0
    result = await suite.result(suite.start(worker.address, prompt_of(10)))
    assert isinstance(result.error, TransferFailed)
    assert "not asked for" in result.error.message
    assert (suite.pages[1:] == 7.0).all()


async def test_a_refusal_names_the_worker_and_keeps_its_kind(suite):
    worker = await suite.worker(num_pages=2)
    result = await suite.result(suite.start(worker.address, prompt_of(300)))
    assert isinstance(result.error, InvalidRequest)
    assert worker.address in result.error.message
    worker.embeddings.error = MediaLost("evicted")
    lost = await suite.result(suite.start(worker.address, prompt_of(100), media=(medium(3, 4),)))
    assert isinstance(lost.error, MediaLost)


async def test_a_corrupt_transfer_is_read_again_once_and_then_fails(suite):
    worker = await suite.worker()
    await suite.peers.get(worker.address, "prefill")
    suite.fabric.corrupting["prefill-a"] = 1
    assert (await suite.result(suite.start(worker.address, prompt_of(64)))).error is None
    suite.fabric.corrupting["prefill-a"] = 99
    result = await suite.result(suite.start(worker.address, prompt_of(64, 1)))
    assert isinstance(result.error, TransferFailed)
    suite.fabric.corrupting.clear()
    await until(worker.is_free)


async def test_a_worker_that_breaks_off_leaves_pages_at_risk_until_its_reads_have_settled(suite):
    worker = await suite.worker()
    await suite.peers.get(worker.address, "prefill")
    suite.fabric.held.add("prefill-a")
    prompt = suite.start(worker.address, prompt_of(300))
    await until(suite.has_posted)
    await worker.owner.stop()
    result = await suite.result(prompt)
    assert isinstance(result.error, Unavailable)
    assert set(result.pages_at_risk) <= set(range(5))
    assert result.pages_at_risk
    assert suite.settled == []
    suite.fabric.held.clear()
    await until(lambda: sorted(suite.settled) == list(result.pages_at_risk))


async def test_a_stopped_fetch_ends_at_once_and_its_lease_when_its_reads_have_settled(suite):
    worker = await suite.worker()
    await suite.peers.get(worker.address, "prefill")
    suite.fabric.held.add("prefill-a")
    prompt = suite.start(worker.address, prompt_of(300))
    await until(suite.has_posted)
    suite.remote.stop(prompt)
    result = await suite.result(prompt)
    assert isinstance(result.error, Cancelled)
    assert result.pages_at_risk
    await until(lambda: worker.engine.load.pages.quarantined > 0)
    suite.fabric.held.clear()
    await until(lambda: sorted(suite.settled) == list(result.pages_at_risk))
    await until(worker.is_free)


async def test_a_fetch_stopped_before_anything_was_announced_frees_the_lease(suite):
    worker = await suite.worker()
    worker.embeddings.gate.clear()
    prompt = suite.start(worker.address, prompt_of(100), media=(medium(3, 4),))
    await until(lambda: worker.engine.load.pages.leased > 0)
    suite.remote.stop(prompt)
    result = await suite.result(prompt)
    assert (type(result.error), result.pages_at_risk) == (Cancelled, ())
    await until(worker.is_free)


async def test_a_read_beyond_the_lease_fails_the_fetch(suite):
    worker = await suite.worker(lease_s=10.0)
    await suite.peers.get(worker.address, "prefill")
    suite.remote = suite.make_remote(silence_s=60.0)
    suite.fabric.held.add("prefill-a")
    prompt = suite.start(worker.address, prompt_of(100))
    await until(suite.has_posted)
    suite.clock.now += 9.0
    result = await suite.result(prompt)
    assert isinstance(result.error, TransferFailed)
    assert result.pages_at_risk
    suite.fabric.held.clear()
    await until(worker.is_free)


async def test_renewals_keep_a_request_alive_while_it_waits(suite, monkeypatch):
    monkeypatch.setattr("services.decode.prompts.prefill_stream._TICK_S", 0.01)
    acknowledged: asyncio.Queue[LeaseClock] = asyncio.Queue()
    renewed = LeaseClock.renewed

    def count(lease: LeaseClock) -> None:
        renewed(lease)
        acknowledged.put_nowait(lease)

    monkeypatch.setattr(LeaseClock, "renewed", count)
    worker = await suite.worker(lease_s=6.0)
    suite.remote = suite.make_remote(silence_s=6.0)
    worker.embeddings.gate.clear()
    prompt = suite.start(worker.address, prompt_of(100), media=(medium(3, 4),))
    await until(lambda: worker.engine.load.pages.leased > 0)
    for _ in range(4):
        suite.clock.now += 4.0
        await asyncio.wait_for(acknowledged.get(), 5)
    assert suite.ends == []
    worker.embeddings.gate.set()
    assert (await suite.result(prompt)).error is None


async def test_a_worker_that_says_nothing_is_given_up(suite, monkeypatch):
    monkeypatch.setattr("services.decode.prompts.prefill_stream._TICK_S", 0.01)
    worker = await suite.worker()
    await suite.peers.get(worker.address, "prefill")
    suite.remote = suite.make_remote(silence_s=6.0)
    gate = hold(worker.loop)
    prompt = suite.start(worker.address, prompt_of(100))
    await let_tasks_run()
    suite.clock.now += 6.1
    result = await suite.result(prompt)
    gate.set()
    assert isinstance(result.error, Unavailable)
    assert "silent" in result.error.message
    await until(worker.is_free)


async def test_a_defect_ends_the_fetch_too(suite, monkeypatch):
    worker = await suite.worker()

    async def broken(address: str, role: str) -> None:
        raise IndexError("no such thing")

    monkeypatch.setattr(suite.peers, "get", broken)
    result = await suite.result(suite.start(worker.address, prompt_of(100)))
    assert "no such thing" in str(result.error)
