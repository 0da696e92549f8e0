"""Embeddings read from a vision worker's pool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import torch

from perigee.v1 import vision_pb2, vision_pb2_grpc
from services.common.errors import Incompatible, InternalError, InvalidRequest, MediaLost, NotFound
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from services.engine.leases.embedding_reader import EmbeddingReader
from services.engine.media import Medium
from tests.support.fake_runner import HIDDEN, fake_pages
from tests.support.manual_clock import ManualClock
from tests.support.owner import Owner, RecordingBackend, peer_directory, transfer_thread
from tests.support.waiting import let_tasks_run, until

STAGING_PAGES = 4


class StrawVision(vision_pb2_grpc.VisionServiceServicer):
    """Leases the pages it is told; `rows` is [pages, 64, hidden]."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows
        self.pages: dict[bytes, tuple[list[int], int]] = {}
        self.error: Exception | None = None
        self.before_grant = asyncio.Event()
        self.before_grant.set()
        self.before_release = asyncio.Event()
        self.before_release.set()
        self.confirmed_generation: int | None = 4
        """None: the stream just ends."""
        self.ends: list[str] = []

    async def Lease(self, request_iterator, context) -> AsyncIterator[vision_pb2.EmbeddingLeaseResponse]:
        start = (await anext(request_iterator)).start
        if self.error is not None:
            raise self.error
        try:
            await self.before_grant.wait()
            pages, num_tokens = self.pages[start.content_hashes[0]]
            yield vision_pb2.EmbeddingLeaseResponse(
                granted=vision_pb2.EmbeddingLeaseGranted(
                    lease=vision_pb2.LeaseGrant(lease_id=1, generation=4, duration_ms=10_000),
                    embeddings=[vision_pb2.EmbeddingPages(pages=pages, num_tokens=num_tokens)],
                )
            )
            async for request in request_iterator:
                if request.WhichOneof("message") == "release":
                    assert (request.release.lease_id, request.release.generation) == (1, 4)
                    self.ends.append("released")
                    if self.confirmed_generation is None:
                        return
                    await self.before_release.wait()
                    released = vision_pb2.LeaseReleased(generation=self.confirmed_generation)
                    yield vision_pb2.EmbeddingLeaseResponse(released=released)
                    return
            self.ends.append("broken")
        except asyncio.CancelledError:
            self.ends.append("broken")
            raise


class Suite:
    """A reader with a staging area of 4 pages, and a vision worker with 16 pages of rows."""

    def __init__(self) -> None:
        self.fabric = MemoryFabric()
        self.clock = ManualClock()
        self.rows = torch.arange(16 * 64 * HIDDEN, dtype=torch.float32).reshape(16, 64, HIDDEN)
        pages = fake_pages(2)
        self.vision_thread = transfer_thread("vision", self.fabric, pages, self.rows)
        self.staging = torch.zeros(STAGING_PAGES, 64, HIDDEN)
        self.thread = transfer_thread("reader", self.fabric, pages, self.staging, self.clock)
        self.peers = peer_directory("reader-1", self.thread, pages)
        self.reader = EmbeddingReader(self.peers, self.thread, self.staging, patience_s=2.0, clock=self.clock)
        self.vision = StrawVision(self.rows)
        self.owner = Owner(RecordingBackend("vision", self.vision_thread, pages))

    async def start(self) -> None:
        await self.owner.start(
            lambda server: vision_pb2_grpc.add_VisionServiceServicer_to_server(self.vision, server)
        )

    def medium(self, pages: list[int], num_tokens: int, incarnation: str = "vision") -> Medium:
        content_hash = bytes([pages[0]]) * 32
        self.vision.pages[content_hash] = (pages, num_tokens)
        return Medium(content_hash, 0, num_tokens, self.owner.address, incarnation)

    async def fetch_too_late(self, medium: Medium) -> None:
        """A fetch whose lease runs out during the read."""
        agent = self.fabric.agents["reader"]
        posted = agent.num_posted
        fetch = asyncio.create_task(self.reader.fetch(medium))
        await until(lambda: agent.num_posted > posted)
        self.clock.now += 10.0
        with pytest.raises(MediaLost, match="deadline passed"):
            await fetch

    def settled(self) -> int:
        return sum(word[0] == "settled" for word in self.owner.backend.heard)

    def available(self) -> int:
        return self.reader._line.available()

    async def all_free(self) -> None:
        await until(lambda: self.reader._line.available() == STAGING_PAGES)
        self.reader._line.check_integrity()

    async def close(self) -> None:
        self.vision.before_grant.set()
        self.vision.before_release.set()
        self.fabric.held.clear()
        await self.peers.close()
        await self.owner.stop()
        self.thread.close()
        self.vision_thread.close()


@pytest.fixture
async def suite():
    suite = Suite()
    await suite.start()
    yield suite
    await suite.close()


async def test_rows_come_as_they_are_and_the_lease_is_released(suite):
    embedding = await suite.reader.fetch(suite.medium([5, 2, 9], 150))
    assert torch.equal(embedding, suite.rows[[5, 2, 9]].flatten(0, 1)[:150])
    assert suite.vision.ends == ["released"]
    await suite.all_free()


@pytest.mark.parametrize("generation", [None, 0, 5])
async def test_rows_do_not_count_before_the_worker_has_confirmed_that_it_held_their_lease(suite, generation):
    suite.vision.confirmed_generation = generation
    with pytest.raises(MediaLost, match="lease"):
        await suite.reader.fetch(suite.medium([1], 10))
    await until(lambda: suite.settled() == 1)
    await suite.all_free()


@pytest.mark.parametrize("silent_at", ["before_grant", "before_release"])
async def test_a_vision_worker_that_does_not_answer_costs_its_patience_and_no_more(suite, silent_at):
    suite.reader._patience_s = 0.2
    getattr(suite.vision, silent_at).clear()
    with pytest.raises(MediaLost, match=r"did not answer in 0\.2 s"):
        await suite.reader.fetch(suite.medium([1], 10))
    await until(lambda: suite.settled() == 1)
    await suite.all_free()


async def test_an_embedding_is_the_callers_own(suite):
    first = await suite.reader.fetch(suite.medium([5], 64))
    await suite.reader.fetch(suite.medium([6, 7, 8, 9], 256))
    assert torch.equal(first, suite.rows[5])


async def test_reads_beyond_the_staging_area_wait_for_their_turn(suite):
    media = [suite.medium([n, n + 1, n + 2], 190) for n in range(0, 12, 3)]
    embeddings = await suite.reader.fetch_all(media, [0, 1, 2, 3])
    for index, embedding in embeddings.items():
        assert torch.equal(embedding, suite.rows[3 * index : 3 * index + 3].flatten(0, 1)[:190])
    await suite.all_free()


async def test_an_image_larger_than_the_staging_area_is_lost(suite):
    with pytest.raises(MediaLost, match="staging area of 256 rows"):
        await suite.reader.fetch(suite.medium([0, 1, 2, 3, 4], 257))
    await suite.all_free()


async def test_a_vision_worker_that_was_replaced_has_lost_its_images(suite):
    with pytest.raises(MediaLost, match="was replaced"):
        await suite.reader.fetch(suite.medium([1], 10, incarnation="vision-of-yesterday"))
    await suite.all_free()


async def test_a_vision_worker_that_is_gone_has_lost_its_images(suite):
    medium = suite.medium([1], 10)
    await suite.owner.stop()
    with pytest.raises(MediaLost, match=suite.owner.address):
        await suite.reader.fetch(medium)
    await suite.all_free()


async def test_an_evicted_image_is_lost(suite):
    suite.vision.error = NotFound("no such image")
    with pytest.raises(MediaLost, match=f"{suite.owner.address}: no such image"):
        await suite.reader.fetch(suite.medium([1], 10))
    await suite.all_free()


async def test_an_error_that_no_encoding_cures_stays_what_it_is(suite):
    suite.vision.error = InvalidRequest("a content hash is not 32 bytes long")
    with pytest.raises(InvalidRequest, match="32 bytes"):
        await suite.reader.fetch(suite.medium([1], 10))
    suite.owner.backend.info().model.fingerprint = b"other"
    await suite.owner.stop()
    await suite.start()
    with pytest.raises(Incompatible):
        await suite.reader.fetch(suite.medium([1], 10))


@pytest.mark.parametrize(("pages", "num_tokens"), [([1], 11), ([1, 2], 10)])
async def test_an_embedding_of_another_size_is_refused(suite, pages, num_tokens):
    medium = suite.medium([1], 10)
    suite.vision.pages[medium.content_hash] = (pages, num_tokens)
    with pytest.raises(MediaLost, match="rows for an image of 10"):
        await suite.reader.fetch(medium)
    await until(lambda: suite.settled() == 1)
    await suite.all_free()


@pytest.mark.parametrize("pages", [[0, 16], [1, 2**32 - 1]])
async def test_pages_outside_the_offer_are_refused_before_anything_is_read(suite, pages):
    with pytest.raises(MediaLost, match=f"granted embedding page {max(pages)}; its offer has 16 pages"):
        await suite.reader.fetch(suite.medium(pages, 100))
    assert not suite.staging.any()


async def test_a_read_that_fails_loses_the_image_and_settles_the_lease(suite):
    await suite.peers.get(suite.owner.address, "prefill")
    suite.fabric.failing_posts["vision"] = 1
    with pytest.raises(MediaLost, match="read from vision"):
        await suite.reader.fetch(suite.medium([1], 10))
    await until(lambda: suite.vision.ends == ["broken"] and suite.settled() == 1)
    await suite.all_free()


async def test_pages_of_a_late_read_are_not_used_before_it_has_settled(suite):
    await suite.peers.get(suite.owner.address, "prefill")
    suite.fabric.held.add("vision")
    await suite.fetch_too_late(suite.medium([1, 2], 100))
    await let_tasks_run()
    assert suite.available() == STAGING_PAGES - 2
    assert suite.settled() == 0
    suite.fabric.held.clear()
    await until(lambda: suite.settled() == 1)
    await suite.all_free()


@pytest.mark.parametrize("moment", ["queued", "leasing", "reading"])
async def test_a_cancelled_fetch_gives_everything_back(suite, moment):
    await suite.peers.get(suite.owner.address, "prefill")
    ahead = None
    if moment == "reading":
        suite.fabric.held.add("vision")
    else:
        suite.vision.before_grant.clear()
    if moment == "queued":
        ahead = asyncio.create_task(suite.reader.fetch(suite.medium([4, 5, 6], 192)))
        await until(lambda: suite.available() == 1)
    fetch = asyncio.create_task(suite.reader.fetch(suite.medium([1, 2], 100)))
    if moment == "reading":
        await until(lambda: suite.thread._loop._agent.live_transfers == 1)
    await let_tasks_run()
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    suite.fabric.held.clear()
    suite.vision.before_grant.set()
    if ahead is not None:
        assert torch.equal(await ahead, suite.rows[4:7].flatten(0, 1))
    await suite.all_free()


async def test_the_first_error_of_several_is_the_answer(suite):
    good, bad = suite.medium([1], 10), suite.medium([2], 10, incarnation="other")
    with pytest.raises(MediaLost):
        await suite.reader.fetch_all([good, bad], [0, 1])
    await suite.all_free()


async def test_a_defect_is_answered_as_an_internal_error(suite, monkeypatch):
    async def broken(medium):
        raise IndexError("no such thing")

    monkeypatch.setattr(suite.reader, "fetch", broken)
    with pytest.raises(InternalError, match="no such thing"):
        await suite.reader.fetch_all([suite.medium([1], 10)], [0])


async def test_a_large_image_has_its_turn_before_small_ones_that_came_later(suite):
    suite.vision.before_grant.clear()
    order = []

    async def fetch(name, pages):
        await suite.reader.fetch(suite.medium(pages, 64 * len(pages)))
        order.append(name)

    names = {"first": [0], "large": [1, 2, 3, 4], "small": [5], "smaller": [6]}
    fetches = []
    for name, pages in names.items():
        fetches.append(asyncio.create_task(fetch(name, pages)))
    await until(lambda: suite.available() < STAGING_PAGES)
    await let_tasks_run()
    assert suite.available() == STAGING_PAGES - 1, "a newcomer went ahead"
    suite.vision.before_grant.set()
    await asyncio.gather(*fetches)
    assert order[:2] == ["first", "large"]
    assert sorted(order[2:]) == ["small", "smaller"]
    await suite.all_free()


async def test_who_leaves_the_line_lets_those_behind_go_on(suite):
    suite.vision.before_grant.clear()
    first = asyncio.create_task(suite.reader.fetch(suite.medium([0], 64)))
    await until(lambda: suite.available() == STAGING_PAGES - 1)
    large = asyncio.create_task(suite.reader.fetch(suite.medium([1, 2, 3, 4], 256)))
    await let_tasks_run()
    small = asyncio.create_task(suite.reader.fetch(suite.medium([5], 64)))
    await let_tasks_run()
    large.cancel()
    await let_tasks_run()
    assert suite.available() == STAGING_PAGES - 2
    suite.vision.before_grant.set()
    await asyncio.gather(first, small)
    await suite.all_free()


async def test_who_is_cancelled_in_the_moment_of_its_turn_gives_the_pages_back(suite):
    suite.vision.before_grant.clear()
    first = asyncio.create_task(suite.reader.fetch(suite.medium([0, 1, 2, 3], 256)))
    await until(lambda: suite.available() == 0)
    second = asyncio.create_task(suite.reader.fetch(suite.medium([4, 5], 128)))
    await let_tasks_run()
    pages = suite.reader._line
    give = pages.give

    def give_and_cancel(numbers):
        give(numbers)
        second.cancel()

    pages.give = give_and_cancel
    suite.vision.before_grant.set()
    await first
    with pytest.raises(asyncio.CancelledError):
        await second
    await suite.all_free()


async def test_a_worker_that_hangs_holds_the_images_of_others_up_for_its_patience_only(suite):
    suite.reader._patience_s = 0.3
    suite.vision.before_grant.clear()
    hung = [asyncio.create_task(suite.reader.fetch(suite.medium([n, n + 1], 128))) for n in (0, 2)]
    await until(lambda: suite.available() == 0)
    later = asyncio.create_task(suite.reader.fetch(suite.medium([5, 6, 7], 192)))
    for fetch in hung:
        with pytest.raises(MediaLost, match="did not answer"):
            await fetch
    suite.vision.before_grant.set()
    assert torch.equal(await later, suite.rows[5:8].flatten(0, 1))
    await suite.all_free()


async def test_pages_that_no_read_lets_go_of_cost_those_in_line_a_bounded_time(suite):
    await suite.peers.get(suite.owner.address, "prefill")
    suite.reader._turn_s = 0.3
    suite.fabric.held.add("vision")
    for number in (0, 2):
        await suite.fetch_too_late(suite.medium([number, number + 1], 128))
    with pytest.raises(MediaLost, match=r"staging area .* 0\.3 s"):
        await suite.reader.fetch(suite.medium([5], 64))
    suite.fabric.held.clear()
    await suite.all_free()


async def test_the_first_error_of_several_stops_the_others(suite, monkeypatch):
    suite.reader._patience_s = 60.0
    suite.vision.before_grant.clear()
    slow, bad, fetch = suite.medium([1, 3], 128), suite.medium([2], 10), suite.reader.fetch

    async def fail_later(medium):
        if medium is slow:
            return await fetch(medium)
        await until(lambda: suite.available() == STAGING_PAGES - 2)
        raise MediaLost("gone meanwhile")

    monkeypatch.setattr(suite.reader, "fetch", fail_later)
    with pytest.raises(MediaLost, match="gone meanwhile"):
        await suite.reader.fetch_all([slow, bad], [0, 1])
    await suite.all_free()


async def test_a_worker_that_does_not_shake_hands_takes_no_pages(suite, monkeypatch):
    never = asyncio.Event()

    async def hang(address, role):
        await never.wait()

    monkeypatch.setattr(suite.peers, "get", hang)
    fetch = asyncio.create_task(suite.reader.fetch(suite.medium([1], 10)))
    await let_tasks_run()
    assert suite.available() == STAGING_PAGES
    fetch.cancel()
    await asyncio.gather(fetch, return_exceptions=True)
