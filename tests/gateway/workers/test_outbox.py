"""Submits and cancels for one worker, joined into few messages."""

import asyncio

import pytest

from perigee.v1 import decode_pb2
from services.gateway.workers.outbox import MESSAGE_BYTES, Outbox
from tests.support.waiting import let_tasks_run


@pytest.fixture
def outbox():
    return Outbox()


def submit(handle, tokens=1):
    return decode_pb2.Submit(handle=handle, prompt_token_ids=[1] * tokens)


def shown(message):
    return [each.handle for each in message.submits], [each.handle for each in message.cancels]


async def test_what_waits_is_one_message(outbox):
    messages = outbox.messages()
    outbox.submit(submit(1))
    outbox.submit(submit(2))
    outbox.cancel(1)
    assert shown(await anext(messages)) == ([1, 2], [1])
    outbox.cancel(2)
    assert shown(await anext(messages)) == ([], [2])


async def test_large_requests_go_one_by_one_and_no_cancel_overtakes_its_request(outbox):
    messages = outbox.messages()
    for handle in (1, 2, 3):
        outbox.submit(submit(handle, MESSAGE_BYTES * 3 // 4))
    outbox.submit(submit(4))
    outbox.cancel(3)
    sent = [shown(await anext(messages)) for _ in range(3)]
    assert sent == [([1], []), ([2], []), ([3, 4], [3])]


async def test_a_closed_outbox_ends_its_messages_and_drops_what_was_not_sent(outbox):
    messages = outbox.messages()
    waiting = asyncio.create_task(anext(messages, None))
    await let_tasks_run()
    outbox.submit(submit(1))
    outbox.close()
    assert await waiting is None
