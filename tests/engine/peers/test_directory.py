"""Handshakes with the owners of memory, as long as they live and no longer."""

from __future__ import annotations

import asyncio

import pytest
import torch

from perigee.v1 import worker_pb2
from services.common.errors import Incompatible, Overloaded, TransferFailed, Unavailable
from services.common.rpc.pool_address import parse_pool
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from services.engine.peers.pool_members import PoolMembers
from tests.support.fake_runner import HIDDEN, fake_pages
from tests.support.manual_clock import ManualClock
from tests.support.owner import Owner, RecordingBackend, peer_directory, transfer_thread
from tests.support.waiting import let_tasks_run, until


async def never_asked(host: str, port: int) -> list[str]:
    raise AssertionError("an IP address needs no name server")


class Suite:
    """A reader, and owners that come and go on one fabric."""

    def __init__(self) -> None:
        self.fabric = MemoryFabric()
        self.pages = fake_pages(4)
        self.reader = transfer_thread("reader", self.fabric, self.pages, torch.zeros(2, 64, HIDDEN))
        self.clock = ManualClock()
        self.peers = peer_directory("reader-1", self.reader, self.pages, self.clock)
        self.owners: list[Owner] = []
        self.threads = [self.reader]

    async def owner(self, name: str, port: int = 0) -> Owner:
        pages = fake_pages(4)
        thread = transfer_thread(name, self.fabric, pages, torch.zeros(2, 64, HIDDEN))
        owner = Owner(RecordingBackend(name, thread, pages))
        self.threads.append(thread)
        self.owners.append(owner)
        await owner.start(port=port)
        return owner

    async def close(self) -> None:
        await self.peers.close()
        for owner in self.owners:
            await owner.stop()
        for thread in self.threads:
            thread.close()


@pytest.fixture
async def suite():
    suite = Suite()
    yield suite
    await suite.close()


async def test_concurrent_callers_share_one_handshake(suite):
    owner = await suite.owner("prefill-a")
    peers = await asyncio.gather(*(suite.peers.get(owner.address, "prefill") for _ in range(5)))
    assert all(peer is peers[0] for peer in peers)
    assert peers[0].alive
    assert await suite.peers.get(owner.address, "prefill") is peers[0]
    assert owner.backend.heard == [("joined", "reader-1")]


async def test_a_broken_handshake_is_replaced_under_the_same_name(suite):
    owner = await suite.owner("prefill-a")
    peer = await suite.peers.get(owner.address, "prefill")
    peer.settle([7])
    await until(lambda: ("settled", "reader-1", (7,)) in owner.backend.heard)
    peer.link.cancel()
    await until(lambda: not peer.alive)
    again = await suite.peers.get(owner.address, "prefill")
    assert (again.reader, again.token) == (peer.reader, peer.token) == ("reader-1", peer.token)
    assert len(peer.token) == 16
    assert "token" not in repr(peer)


async def test_a_name_that_somebody_took_first_costs_a_reader_one_more_hello(suite):
    owner = await suite.owner("prefill-a")
    taken = owner.servicer.readers.join("reader-1", b"")
    peer = await suite.peers.get(owner.address, "prefill")
    assert peer.alive
    assert peer.reader.startswith("reader-1-")
    assert peer.token != taken.token
    peer.settle([7])
    await until(lambda: ("settled", peer.reader, (7,)) in owner.backend.heard)


async def test_an_owner_may_be_known_by_two_addresses(suite):
    owner = await suite.owner("prefill-a")
    first = await suite.peers.get(owner.address, "prefill")
    second = await suite.peers.get(f"localhost:{owner.port}", "prefill")
    assert first.alive
    assert second.alive
    assert first.reader != second.reader


@pytest.mark.parametrize("token", [b"", bytes(15), bytes(17)])
async def test_an_offer_without_a_token_is_refused(suite, token):
    owner = await suite.owner("prefill-a")
    owner.servicer.readers._new_token = lambda: token
    with pytest.raises(Incompatible, match="no reader token of 16 bytes"):
        await suite.peers.get(owner.address, "prefill")


async def test_an_owner_outside_the_pool_of_its_role_is_not_connected_to(suite):
    inside, outside = await suite.owner("prefill-a"), await suite.owner("prefill-b")
    pool = PoolMembers(parse_pool(inside.address), never_asked)
    suite.peers._pools = {"prefill": pool}
    with pytest.raises(
        Incompatible, match=f"{outside.address} is not in this worker's prefill_pool .{inside.address}"
    ):
        await suite.peers.get(outside.address, "prefill")
    assert (outside.backend.heard, list(suite.peers._places)) == ([], [])
    assert (await suite.peers.get(inside.address, "prefill")).alive
    assert (await suite.peers.get(outside.address, "decode")).alive, "other roles have no pool"


async def test_an_owner_that_left_the_pool_keeps_its_pairing_but_gets_no_other(suite):
    owner = await suite.owner("prefill-a")
    peer = await suite.peers.get(owner.address, "prefill")
    suite.peers._pools = {"prefill": PoolMembers((), never_asked)}
    assert await suite.peers.get(owner.address, "prefill") is peer
    peer.link.cancel()
    await until(lambda: not peer.alive)
    with pytest.raises(Incompatible, match="prefill_pool"):
        await suite.peers.get(owner.address, "prefill")


async def test_settled_leases_are_told_to_their_owner(suite):
    owner = await suite.owner("prefill-a")
    peer = await suite.peers.get(owner.address, "prefill")
    peer.settle([7, 8])
    await until(lambda: ("settled", "reader-1", (7, 8)) in owner.backend.heard)


async def test_lease_keys_are_never_repeated(suite):
    keys = [suite.peers.next_lease_key() for _ in range(100)]
    assert len(set(keys)) == 100
    assert 0 not in keys


async def test_a_lost_peer_is_dropped_and_its_successor_paired_with(suite):
    first = await suite.owner("prefill-a")
    peer = await suite.peers.get(first.address, "prefill")
    await first.stop()
    await until(lambda: not peer.alive)
    second = await suite.owner("prefill-b", first.port)
    successor = await suite.peers.get(second.address, "prefill")
    assert (successor.agent_name, successor.alive) == ("prefill-b", True)
    assert "prefill-a" not in suite.reader._loop._agent._peers, "the transfer thread has forgotten it"
    peer.settle([3])
    successor.settle([4])
    await until(lambda: len(second.backend.heard) > 1)
    assert second.backend.heard == [("joined", "reader-1"), ("settled", "reader-1", (4,))]


async def test_a_lease_that_settles_between_two_handshakes_is_told_with_the_second(suite):
    owner = await suite.owner("prefill-a")
    peer = await suite.peers.get(owner.address, "prefill")
    await owner.stop()
    await until(lambda: not peer.alive)
    peer.settle([3])
    await owner.start(port=owner.port)
    again = await suite.peers.get(owner.address, "prefill")
    assert again is not peer
    peer.settle([4])
    await until(lambda: ("settled", "reader-1", (4,)) in owner.backend.heard)
    assert ("settled", "reader-1", (3,)) in owner.backend.heard


async def test_an_address_without_a_worker_is_named_and_tried_again_at_once(suite):
    owner = await suite.owner("prefill-a")
    await owner.stop()
    for _ in range(20):
        with pytest.raises(Unavailable, match=owner.address):
            await suite.peers.get(owner.address, "prefill")
        await asyncio.sleep(0.05)  # gRPC's own backoff is real time
    await owner.start(port=owner.port)
    assert (await suite.peers.get(owner.address, "prefill")).alive


async def test_a_refusal_is_passed_on_with_the_owners_reason(suite):
    owner = await suite.owner("prefill-a")
    owner.backend.info().model.fingerprint = b"other"
    with pytest.raises(Incompatible, match=f"{owner.address}.*checkpoint"):
        await suite.peers.get(owner.address, "prefill")


async def test_an_owner_whose_memory_cannot_be_read_is_named_and_told_that_the_reader_is_gone(suite):
    owner = await suite.owner("prefill-a")
    suite.fabric.dead.add("prefill-a")
    with pytest.raises(TransferFailed, match=owner.address):
        await suite.peers.get(owner.address, "prefill")
    await until(lambda: ("gone", "reader-1") in owner.backend.heard)


async def test_an_owner_that_never_offers_is_given_up(suite):
    owner = await suite.owner("prefill-a")
    never = asyncio.Event()

    async def handshake(requests, context):
        await never.wait()
        yield worker_pb2.HandshakeResponse()

    await owner.stop()
    owner.servicer.Handshake = handshake
    await owner.start(port=owner.port)
    suite.peers._timeout_s = 0.1
    with pytest.raises(Unavailable, match=f"{owner.address} did not finish the handshake"):
        await suite.peers.get(owner.address, "prefill")


async def test_a_caller_that_gives_up_does_not_take_the_others_attempt_along(suite):
    owner = await suite.owner("prefill-a")
    impatient = asyncio.create_task(suite.peers.get(owner.address, "prefill"))
    patient = asyncio.create_task(suite.peers.get(owner.address, "prefill"))
    await let_tasks_run()
    impatient.cancel()
    assert (await patient).alive


async def test_closing_tells_every_owner_that_the_reader_is_gone(suite):
    owner = await suite.owner("prefill-a")
    peer = await suite.peers.get(owner.address, "prefill")
    await suite.peers.close()
    await until(lambda: ("gone", "reader-1") in owner.backend.heard)
    await until(lambda: not peer.alive)


async def test_a_check_pairs_if_need_be_and_says_whom_it_read(suite):
    owner = await suite.owner("prefill-a")
    peer, report = await suite.peers.check(owner.address, "prefill", 3)
    assert (peer.offer.incarnation, report.bytes) == ("prefill-a", 3 << 20)
    assert owner.backend.heard == [("joined", "reader-1")]
    await suite.peers.check(owner.address, "prefill", 3)
    assert owner.backend.heard == [("joined", "reader-1")], "it stays paired"


async def test_a_check_of_another_model_is_refused_with_the_owners_reason(suite):
    owner = await suite.owner("prefill-a")
    owner.backend.info().model.fingerprint = b"other"
    with pytest.raises(Incompatible, match=f"{owner.address}.*checkpoint"):
        await suite.peers.check(owner.address, "prefill", 3)


async def test_a_check_that_finds_wrong_bytes_names_the_owners_address(suite):
    owner = await suite.owner("prefill-a")
    await suite.peers.get(owner.address, "prefill")
    suite.fabric.corrupting["prefill-a"] = 1
    with pytest.raises(TransferFailed, match=f"worker {owner.address}: .*round 1 of 3: the CRC-32"):
        await suite.peers.check(owner.address, "prefill", 3)


async def test_a_second_check_at_the_same_time_is_refused_and_names_the_owners_address(suite):
    owner = await suite.owner("prefill-a")
    await suite.peers.get(owner.address, "prefill")
    first = asyncio.create_task(suite.peers.check(owner.address, "prefill", 1000))
    await let_tasks_run()
    with pytest.raises(Overloaded, match=owner.address):
        await suite.peers.check(owner.address, "prefill", 3)
    assert (await first)[1].bytes == 1000 << 20


async def test_a_caller_that_gives_up_ends_its_check(suite):
    owner = await suite.owner("prefill-a")
    await suite.peers.get(owner.address, "prefill")
    task = asyncio.create_task(suite.peers.check(owner.address, "prefill", 4096))
    await let_tasks_run()
    task.cancel()
    await let_tasks_run()
    assert (await suite.peers.check(owner.address, "prefill", 1))[1].bytes == 1 << 20


async def test_addresses_where_nobody_has_been_for_long_are_forgotten(suite):
    owners = [await suite.owner(f"prefill-{i}") for i in range(3)]
    peers = [await suite.peers.get(owner.address, "prefill") for owner in owners]
    await owners[0].stop()
    await owners[1].stop()
    await until(lambda: not peers[0].alive and not peers[1].alive)
    suite.clock.now += 301.0
    late = await suite.owner("prefill-late")
    await suite.peers.get(late.address, "prefill")
    assert set(suite.peers._places) == {owners[2].address, late.address}
    assert await suite.peers.get(owners[2].address, "prefill") is peers[2]
    with pytest.raises(Unavailable):
        await suite.peers.get(owners[0].address, "prefill")


async def test_a_handshake_that_a_defect_ends_leaves_no_stream_behind(suite, monkeypatch):
    owner = await suite.owner("prefill-a")

    def broken(offer):
        raise RuntimeError("no such thing")

    with monkeypatch.context() as patched:
        patched.setattr(suite.reader, "connect", broken)
        with pytest.raises(RuntimeError):
            await suite.peers.get(owner.address, "prefill")
    await until(lambda: not owner.servicer.readers.is_paired("reader-1"))
    assert (await suite.peers.get(owner.address, "prefill")).alive
