"""Settlement notices reach the owner once."""

from __future__ import annotations

import asyncio

from services.engine.peers.settlement_notifier import Outgoing, SettlementNotifier

TOKEN = bytes(range(16))


def notices(outgoing: Outgoing) -> list[list[int]]:
    found = []
    while not outgoing.empty():
        message = outgoing.get_nowait()
        assert message is not None
        assert message.settled.reader_token == TOKEN
        found.append(list(message.settled.lease_keys))
    return found


def test_keys_are_sent_at_once_over_an_open_handshake():
    notifier, outgoing = SettlementNotifier("owner-1"), asyncio.Queue()
    notifier.opened(outgoing, TOKEN)
    assert notices(outgoing) == []
    notifier.notify([3, 4])
    assert notices(outgoing) == [[3, 4]]


def test_keys_that_settle_without_a_handshake_are_sent_over_the_next_one_and_again_over_the_one_after_it():
    """The second handshake may have broken before they arrived."""
    notifier, first, second = SettlementNotifier("owner-1"), asyncio.Queue(), asyncio.Queue()
    notifier.opened(first, TOKEN)
    notifier.closed(first)
    notifier.notify([5])
    notifier.notify([6])
    notifier.opened(second, TOKEN)
    assert (notices(first), notices(second)) == ([], [[5, 6]])
    notifier.closed(second)
    third: Outgoing = asyncio.Queue()
    notifier.opened(third, TOKEN)
    assert notices(third) == [[5, 6]]


def test_the_end_of_an_older_handshake_does_not_close_the_newer():
    notifier, first, second = SettlementNotifier("owner-1"), asyncio.Queue(), asyncio.Queue()
    notifier.opened(first, TOKEN)
    notifier.opened(second, TOKEN)
    notifier.closed(first)
    notifier.notify([7])
    assert notices(second) == [[7]]
