"""Deadlines and cancellation: how they end at the client, and that they reach the worker."""

from __future__ import annotations

import asyncio
import gc

import pytest

from perigee.client import Cancelled, DeadlineExceeded
from tests.client.driver import driving
from tests.gateway.suite import wait_until
from tests.support.waiting import scaled


@pytest.fixture
def endless(suite):
    """The worker goes on until it is cancelled."""
    suite.say("word " * 2000, end=False)
    suite.decode.step_s = 0.05
    return suite


async def cancelled(suite):
    async with asyncio.timeout(30):
        await suite.decode.cancelled.wait()
    assert suite.decode.cancels == [suite.decode.submits[0].handle]


@pytest.mark.parametrize("path", ["chat.complete", "generation.generate"])
async def test_a_call_ends_at_its_deadline_and_so_does_the_work(endless, client, path):
    with pytest.raises(DeadlineExceeded):
        await client.call(path, "Hi", timeout_s=scaled(0.5))
    await cancelled(endless)


async def test_the_clients_deadline_holds_for_streams(endless, kind):
    async with driving(kind, endless.gateway.grpc_port, timeout_s=scaled(0.5)) as client:
        with pytest.raises(DeadlineExceeded):
            await client.read_all(await client.stream("chat.stream", "Hi"))
    await cancelled(endless)


@pytest.mark.parametrize("path", ["chat.stream", "generation.stream"])
async def test_leaving_a_streams_context_cancels_the_work(endless, client, path):
    async with client.within(await client.stream(path, "Hi")) as stream:
        assert (await client.next(stream)).deltas
    await cancelled(endless)
    with pytest.raises(Cancelled):
        await client.read_all(stream)


async def test_closing_a_stream_ends_a_read_that_waits(suite, client):
    suite.decode.admit.clear()
    stream = await client.stream("chat.stream", "Hi")
    waiting = asyncio.create_task(client.next(stream))
    await wait_until(lambda: suite.decode.submits)
    stream.close()
    with pytest.raises(Cancelled):
        await waiting
    await cancelled(suite)


async def test_a_stream_that_nobody_holds_is_cancelled(endless, client):
    stream = await client.stream("chat.stream", "Hi")
    await client.next(stream)
    del stream
    gc.collect()
    await cancelled(endless)


async def test_closing_the_client_ends_its_calls(suite, kind):
    suite.decode.admit.clear()
    async with driving(kind, suite.gateway.grpc_port) as client:
        waiting = asyncio.create_task(client.call("chat.complete", "Hi"))
        await wait_until(lambda: suite.decode.submits)
    with pytest.raises((Cancelled, asyncio.CancelledError)):
        await waiting
    await cancelled(suite)


async def test_cancelling_a_task_cancels_its_call_and_stays_a_cancellation(suite):
    suite.decode.admit.clear()
    async with driving("async", suite.gateway.grpc_port) as client:
        waiting = asyncio.create_task(client.call("chat.complete", "Hi"))
        await wait_until(lambda: suite.decode.submits)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await cancelled(suite)
