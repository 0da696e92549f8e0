"""The gateway's channels to workers while certificates change."""

from __future__ import annotations

import pytest

from perigee.v1 import worker_pb2
from services.cli.dev_certificates import Authority
from services.gateway.workers.pool import PREFILL, WorkerPool
from tests.gateway.fakes import FakeServer, FakeWorker
from tests.gateway.suite import wait_until
from tests.support.certificates import Deployment


class Fleet:
    """One prefill worker and a pool that knows it, both with certificates."""

    def __init__(self, deployment):
        self.deployment = deployment
        self.gateway = deployment.endpoints("gateway")
        self.prefill = deployment.endpoints("prefill")
        self.worker = FakeWorker(PREFILL)
        self.pool = WorkerPool("", "prefill:1", "decode:1", self.gateway)

    async def start(self, port=0):
        self.server = await FakeServer.start(self.worker, port=port, endpoints=self.prefill)
        self.pool.update(PREFILL, [self.server.address])
        [self.link] = self.pool.links
        await wait_until(lambda: self.link.serving)

    async def restart(self):
        await self.server.stop()
        await wait_until(lambda: not self.link.reachable)
        await self.start(int(self.server.address.rpartition(":")[2]))

    def replace_ca(self):
        """Every certificate is from another CA afterwards, which alone is trusted."""
        self.deployment.authority = Authority.new("successor")
        for role, endpoints in (("gateway", self.gateway), ("prefill", self.prefill)):
            self.deployment.issue(role)
            assert endpoints.security.peers.look()


@pytest.fixture
async def fleet(tmp_path):
    fleet = Fleet(Deployment(tmp_path))
    await fleet.start()
    yield fleet
    await fleet.pool.stop()
    await fleet.server.stop()


async def test_a_worker_is_watched_on_through_the_open_channel_after_a_rotation(fleet):
    channel = fleet.link.channel
    fleet.replace_ca()
    fleet.worker.load.waiting = 7
    await wait_until(lambda: fleet.link.requests == 7)
    assert fleet.link.channel is channel
    assert fleet.link.reachable


async def test_a_channel_that_is_connected_is_kept_even_if_its_watch_ended_alone(fleet):
    channel = fleet.link.channel
    fleet.replace_ca()
    assert fleet.gateway.outdated(channel)
    fleet.link._renew_channel()
    assert fleet.link.channel is channel


async def test_a_worker_that_restarts_after_a_rotation_is_reached_with_the_new_certificate(fleet):
    channel = fleet.link.channel
    fleet.replace_ca()
    await fleet.restart()
    assert fleet.link.serving
    assert fleet.link.channel is not channel


async def test_a_worker_that_restarts_without_a_rotation_keeps_its_channel(fleet):
    channel = fleet.link.channel
    await fleet.restart()
    assert fleet.link.channel is channel


async def test_a_worker_of_another_role_is_not_reached(fleet):
    impostor = await FakeServer.start(
        FakeWorker(worker_pb2.WORKER_ROLE_VISION), endpoints=fleet.deployment.endpoints("prefill")
    )
    fleet.pool.vision.update([impostor.address])
    [link] = (link for link in fleet.pool.links if link.address == impostor.address)
    await wait_until(lambda: link._complained)
    assert not link.reachable
    await impostor.stop()
