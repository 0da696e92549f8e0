import asyncio
from types import SimpleNamespace

from services.gateway.workers.inbox import Inbox


async def test_news_come_in_order_and_what_is_put_back_comes_first():
    inbox = Inbox()
    for number in range(3):
        inbox.put(number)
    assert inbox.take() == 0
    inbox.put_back(0)
    assert [inbox.take() for _ in range(len(inbox))] == [0, 1, 2]


async def test_a_reader_sleeps_until_something_comes():
    inbox = Inbox()
    reading = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0.01)
    assert not reading.done()
    inbox.put(1)
    inbox.put(2)
    await asyncio.wait_for(reading, 5)
    assert len(inbox) == 2


async def test_what_comes_for_a_reader_that_was_cancelled_waits_for_the_next_one():
    inbox = Inbox()
    reading = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    inbox.put(1)
    await asyncio.wait_for(inbox.wait(), 5)
    assert inbox.take() == 1


class Shortcut:
    """Takes the tokens that it is to take, and notes what it is asked."""

    def __init__(self, *wanted):
        self.wanted = wanted
        self.asked = []

    def __call__(self, stream, choice, token_id):
        self.asked.append(token_id)
        return token_id in self.wanted


async def test_while_the_reader_waits_tokens_take_the_shortcut_as_far_as_it_goes():
    stream, shortcut = SimpleNamespace(handle=7), Shortcut(1, 3)
    inbox = Inbox(shortcut)
    inbox.put_token(stream, 0, 1)
    assert len(inbox) == 1, "nobody waited"
    inbox.take()
    reading = asyncio.create_task(inbox.wait())
    await asyncio.sleep(0)
    for token_id in (1, 2, 3):
        inbox.put_token(stream, 4, token_id)
    await asyncio.wait_for(reading, 5)
    found = [inbox.take()[1] for _ in range(len(inbox))]
    assert [(delta.handle, delta.choice, *delta.token_ids) for delta in found] == [(7, 4, 2), (7, 4, 3)]
    assert shortcut.asked == [1, 2], "3 came behind 2, which waited already"
