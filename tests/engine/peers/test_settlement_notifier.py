"""What an owner hears about settled leases."""

from __future__ import annotations

import asyncio

from services.engine.peers.settlement_notifier import Outgoing, SettlementNotifier


def said(outgoing: Outgoing) -> list[list[int]]:
    words = []
    while not outgoing.empty():
        message = outgoing.get_nowait()
        assert message is not None
        words.append(list(message.settled.lease_keys))
    return words


def test_keys_are_said_at_once_over_an_open_handshake():
    word, outgoing = SettlementNotifier("owner-1"), asyncio.Queue()
    word.opened(outgoing)
    assert said(outgoing) == []
    word.say([3, 4])
    assert said(outgoing) == [[3, 4]]


def test_keys_that_settle_without_a_handshake_are_said_over_the_next_one_once():
    word, first, second = SettlementNotifier("owner-1"), asyncio.Queue(), asyncio.Queue()
    word.opened(first)
    word.closed(first)
    word.say([5])
    word.say([6])
    word.opened(second)
    assert (said(first), said(second)) == ([], [[5, 6]])
    word.closed(second)
    third: Outgoing = asyncio.Queue()
    word.opened(third)
    assert said(third) == []


def test_the_end_of_an_older_handshake_does_not_close_the_newer():
    word, first, second = SettlementNotifier("owner-1"), asyncio.Queue(), asyncio.Queue()
    word.opened(first)
    word.opened(second)
    word.closed(first)
    word.say([7])
    assert said(second) == [[7]]
