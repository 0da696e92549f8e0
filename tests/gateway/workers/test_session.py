"""What a decode worker says over its session, and whom it reaches."""

import asyncio
import itertools

import pytest

from perigee.v1 import decode_pb2, sampling_pb2
from services.common.errors import InternalError, Unavailable, WorkerLost
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import DECODE
from services.gateway.workers.session import DecodeSession
from services.gateway.workers.session_reader import SessionReader
from services.gateway.workers.stream.inbox import Inbox
from tests.gateway.fakes import FakeServer, FakeWorker
from tests.gateway.suite import wait_until
from tests.support.endpoints import open_channel
from tests.support.waiting import let_tasks_run


class Scripted:
    """A decode service whose responses the test writes."""

    def __init__(self):
        self.responses: asyncio.Queue = asyncio.Queue()

    async def Session(self, requests, context):
        while True:
            yield await self.responses.get()


@pytest.fixture
async def scripted(monkeypatch):
    service = Scripted()
    worker = FakeWorker(DECODE)
    monkeypatch.setattr("tests.gateway.fakes.FakeDecode", Scripted)
    server = await FakeServer.start(worker, service)
    yield service, server.address
    await server.stop()


def session_over(link):
    link.up.set()
    return DecodeSession(link, itertools.count(1))


@pytest.fixture
async def session(scripted):
    _, address = scripted
    channel = open_channel(address)
    session = session_over(WorkerLink(DECODE, address, channel))
    running = asyncio.create_task(session.run())
    await wait_until(lambda: session.connected)
    yield session
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await channel.close()


def ask(session, news):
    sampling = sampling_pb2.SamplingParams(n=1)
    return session.submit(decode_pb2.Submit(prompt_token_ids=[1], sampling=sampling), news)


async def test_a_worker_has_a_request_from_its_submit_until_its_stream_closes_or_the_session_breaks(
    session,
):
    link, inbox = session._link, Inbox()
    streams = [ask(session, inbox) for _ in range(3)]
    assert (link.requests, link.calls) == (3, 3)
    streams[0].close()
    streams[0].close()
    assert (link.requests, link.calls) == (2, 2)
    session._fail_all(WorkerLost("gone"))
    for stream in streams:
        stream.close()
    assert (link.requests, link.calls) == (0, 0)


def columns(handles, choices, token_ids):
    tokens = decode_pb2.TokenColumns(handles=handles, choices=choices, token_ids=token_ids)
    return decode_pb2.SessionResponse(tokens=tokens)


async def heard(inbox, number):
    await wait_until(lambda: len(inbox) >= number)
    return [inbox.take()[1] for _ in range(number)]


async def test_tokens_in_columns_reach_their_requests_in_order(scripted, session):
    service, _ = scripted
    inboxes = [Inbox() for _ in range(50)]
    handles = [ask(session, inbox).handle for inbox in inboxes]
    for first in (100, 200):
        ids = [first + index for index in range(50)]
        service.responses.put_nowait(columns([*handles, 999], [0] * 51, [*ids, 7]))
    async with asyncio.timeout(10):
        for index, inbox in enumerate(inboxes):
            found = [list(delta.token_ids) for delta in await heard(inbox, 2)]
            assert found == [[100 + index], [200 + index]]


async def test_columns_of_different_length_break_the_session_and_a_new_one_is_opened(scripted, session):
    service, _ = scripted
    inbox = Inbox()
    stream = ask(session, inbox)
    service.responses.put_nowait(columns([stream.handle], [], [5]))
    async with asyncio.timeout(10):
        [failure] = await heard(inbox, 1)
    assert isinstance(failure, WorkerLost)
    await wait_until(lambda: session.connected)


async def test_a_defect_in_what_one_request_does_with_a_token_ends_that_request_alone(scripted, session):
    def defective(token_id, now):
        raise ZeroDivisionError

    service, _ = scripted
    guilty, other = Inbox(), Inbox()
    streams = [ask(session, inbox) for inbox in (guilty, other)]
    streams[0].shortcuts = {0: defective}
    handles = [stream.handle for stream in streams]
    waiting = asyncio.create_task(guilty.wait())
    await let_tasks_run()
    service.responses.put_nowait(columns(handles, [0, 0], [5, 6]))
    async with asyncio.timeout(10):
        await waiting
        assert isinstance((await heard(guilty, 1))[0], InternalError)
        assert list((await heard(other, 1))[0].token_ids) == [6]
    assert session.connected


@pytest.mark.parametrize(("steps", "short"), [(3, True), (20, False)])
async def test_few_steps_at_once_take_the_shortcut_and_many_wait_to_be_joined(monkeypatch, steps, short):
    begin, taken = asyncio.Event(), []

    async def read(reader):
        await begin.wait()
        begin.clear()
        return [columns([1], [0], [token_id]) for token_id in range(steps)]

    monkeypatch.setattr(SessionReader, "next", read)
    session = session_over(WorkerLink(DECODE, "127.0.0.1:1", open_channel("127.0.0.1:1")))
    running = asyncio.create_task(session.run())
    await wait_until(lambda: session.connected)
    inbox = Inbox()
    ask(session, inbox).shortcuts = {0: lambda token_id, now: not taken.append(token_id)}
    waiting = asyncio.create_task(inbox.wait())
    await let_tasks_run()
    begin.set()
    await wait_until(lambda: len(taken) + len(inbox) == steps)
    assert taken == (list(range(steps)) if short else [])
    assert waiting.done() is not short
    for task in (running, waiting):
        task.cancel()


async def test_a_session_that_is_cancelled_as_its_call_fails_ends(monkeypatch):
    async def read(reader):
        try:
            return await asyncio.Event().wait()
        except asyncio.CancelledError:
            if running.cancelling() > 1:
                raise
            raise Unavailable("gone") from None

    monkeypatch.setattr(SessionReader, "next", read)
    session = session_over(WorkerLink(DECODE, "127.0.0.1:1", open_channel("127.0.0.1:1")))
    running = asyncio.create_task(session.run())
    await wait_until(lambda: session.connected)
    await let_tasks_run()
    running.cancel()
    await asyncio.wait({running}, timeout=5)
    assert running.cancelled()
