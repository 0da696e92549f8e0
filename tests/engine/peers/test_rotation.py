"""Pairings while certificates change: those that are open stay, new ones show the new certificate."""

from __future__ import annotations

import pytest
import torch

from perigee.v1 import worker_pb2, worker_pb2_grpc
from services.cli.dev_certificates import Authority
from services.common.errors import Unavailable
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from tests.support.certificates import Deployment
from tests.support.fake_runner import HIDDEN, fake_pages
from tests.support.owner import Owner, RecordingBackend, peer_directory, transfer_thread
from tests.support.waiting import until


class Pair:
    """A decode worker that reads and a prefill worker that owns, both with certificates."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.fabric = MemoryFabric()
        pages = fake_pages(4)
        self.decode, self.prefill = deployment.endpoints("decode"), deployment.endpoints("prefill")
        self.reader = transfer_thread("reader", self.fabric, pages, torch.zeros(2, 64, HIDDEN))
        self.peers = peer_directory("reader-1", self.reader, pages, endpoints=self.decode)
        self.threads = [self.reader]

    async def start(self, name: str, port: int = 0) -> None:
        pages = fake_pages(4)
        self.threads.append(transfer_thread(name, self.fabric, pages, torch.zeros(2, 64, HIDDEN)))
        self.owner = Owner(RecordingBackend(name, self.threads[-1], pages), self.prefill)
        await self.owner.start(port=port)

    def replace_ca(self) -> None:
        """Every certificate is from another CA afterwards, which alone is trusted."""
        self.deployment.authority = Authority.new("successor")
        for role, endpoints in (("decode", self.decode), ("prefill", self.prefill)):
            self.deployment.issue(role)
            assert endpoints.security.peers.look()

    async def close(self) -> None:
        await self.peers.close()
        await self.owner.stop()
        for thread in self.threads:
            thread.close()


@pytest.fixture
async def pair(tmp_path):
    pair = Pair(Deployment(tmp_path))
    await pair.start("prefill-a")
    yield pair
    await pair.close()


async def test_a_pairing_and_its_settled_notices_outlive_the_certificates_that_opened_it(pair):
    peer = await pair.peers.get(pair.owner.address, "prefill")
    pair.replace_ca()
    assert await pair.peers.get(pair.owner.address, "prefill") is peer
    peer.settle([7])
    await until(lambda: ("settled", "reader-1", (7,)) in pair.owner.backend.heard)
    assert peer.alive


async def test_a_successor_after_a_rotation_is_paired_with_by_the_new_certificate(pair):
    peer = await pair.peers.get(pair.owner.address, "prefill")
    pair.replace_ca()
    await pair.owner.stop()
    await until(lambda: not peer.alive)
    await pair.start("prefill-b", pair.owner.port)
    assert (await pair.peers.get(pair.owner.address, "prefill")).agent_name == "prefill-b"


async def test_a_handshake_that_ended_alone_leaves_other_calls_on_its_channel_running(pair):
    peer = await pair.peers.get(pair.owner.address, "prefill")
    other = worker_pb2_grpc.WorkerServiceStub(peer.channel).Handshake()
    hello = worker_pb2.ReaderHello(incarnation="reader-2")
    mine = pair.peers._hello
    hello.MergeFrom(worker_pb2.ReaderHello(role=mine.role, model=mine.model, layout=mine.layout))
    await other.write(worker_pb2.HandshakeRequest(hello=hello))
    token = (await other.read()).offer.reader_token
    peer.link.cancel()
    await until(lambda: not peer.alive)
    pair.replace_ca()
    fresh = await pair.peers.get(pair.owner.address, "prefill")
    assert fresh.channel is not peer.channel
    assert fresh.alive
    settled = worker_pb2.SettledLeases(lease_keys=[7], reader_token=token)
    await other.write(worker_pb2.HandshakeRequest(settled=settled))
    await until(lambda: ("settled", "reader-2", (7,)) in pair.owner.backend.heard)
    assert not other.done()
    other.cancel()


async def test_a_worker_of_another_role_at_the_address_is_not_paired_with(pair):
    with pytest.raises(Unavailable):
        await pair.peers.get(pair.owner.address, "vision")
