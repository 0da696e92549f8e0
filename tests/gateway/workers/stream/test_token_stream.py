"""Where the tokens of a request go that come one by one."""

import asyncio

from services.gateway.workers.stream.inbox import Inbox
from services.gateway.workers.stream.token_stream import TokenStream
from tests.support.waiting import let_tasks_run


async def test_while_the_reader_waits_tokens_take_their_choices_shortcut_as_far_as_it_goes():
    inbox, asked = Inbox(), []
    stream = TokenStream(7, "w", 2, inbox, lambda stream: None)
    stream.shortcuts = {0: lambda token_id, now: asked.append((token_id, now)) or token_id != 2}
    stream.put_token(0, 1, 10.0)
    assert len(inbox) == 1, "nobody waited"
    inbox.take()
    reading = asyncio.create_task(inbox.wait())
    await let_tasks_run()
    stream.put_token(0, 1, 11.0)
    assert (len(inbox), stream.last_seen_at) == (0, 11.0)
    for choice, token_id in ((0, 2), (0, 3), (1, 4)):
        stream.put_token(choice, token_id, 12.0)
    await asyncio.wait_for(reading, 5)
    deltas = [inbox.take()[1] for _ in range(len(inbox))]
    found = [(delta.choice, *delta.token_ids) for delta in deltas]
    assert found == [(0, 2), (0, 3), (1, 4)]
    assert asked == [(1, 11.0), (2, 12.0)], "3 came behind 2, which waited already"


async def test_a_choice_without_a_shortcut_and_a_late_token_go_into_the_inbox():
    inbox, taken = Inbox(), []
    stream = TokenStream(7, "w", 2, inbox, lambda stream: None)
    stream.shortcuts = {0: lambda token_id, now: not taken.append(token_id)}
    for put in (lambda: stream.put_token(1, 4, 1.0), lambda: stream.put_late_token(0, 5)):
        reading = asyncio.create_task(inbox.wait())
        await let_tasks_run()
        put()
        await asyncio.wait_for(reading, 5)
        inbox.take()
    assert taken == []
