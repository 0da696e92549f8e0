"""What a suite that stops waits for, and in which order."""

from __future__ import annotations

import asyncio

import pytest

from services.cli.run.stopping import Stopping


class FakeKeeper:
    """Notes when it is stopped; `serves`: its service has been healthy once."""

    def __init__(self, role, happened, serves=True):
        self.role = role
        self.ready = asyncio.Event()
        if serves:
            self.ready.set()
        self._happened = happened

    async def stop(self, timeout_s):
        self._happened.append(f"stop {self.role}")
        return True


@pytest.fixture
def stop(progress):
    """Stops a gateway and a worker whose requests are counted as `count`; returns what happened."""

    async def run(count, serves=True):
        happened = []

        async def requests():
            await asyncio.sleep(0)
            happened.append("count")
            return count

        keepers = [FakeKeeper("decode", happened), FakeKeeper("gateway", happened, serves)]
        stopping = Stopping(keepers, progress, 40, requests, clock=lambda: 0.0)
        await stopping.run(asyncio.Event())
        return happened

    return run


@pytest.mark.parametrize(
    ("count", "said"), [(0, ""), (None, " (requests may finish)"), (1, " (1 request may finish)")]
)
async def test_a_stop_waits_for_requests_only_if_there_may_be_some(stop, screen, count, said):
    await stop(count)
    assert f"waiting for gateway{said}, 35 s at most\nwaiting for decode, 40 s at most\n" in screen.getvalue()


async def test_requests_are_counted_before_the_gateway_ends_and_the_workers_end_after_it(stop):
    assert await stop(0) == ["count", "stop gateway", "stop decode"]


async def test_a_gateway_that_never_served_is_not_asked_for_requests(stop, screen):
    assert await stop(None, serves=False) == ["stop gateway", "stop decode"]
    assert "waiting for gateway, 35 s at most\n" in screen.getvalue()
