"""The bytes of all requests are bounded, and the longest unfinished one makes room."""

import time

import pytest

from services.common.errors import Overloaded
from services.gateway.byte_budget import ByteBudget


def test_the_longest_that_is_being_read_makes_room_for_a_shorter_one():
    budget, refused = ByteBudget(100), []
    with budget.hold() as long, budget.hold() as short, budget.hold() as new:
        long.read(lambda: refused.append("long"))
        short.read(lambda: refused.append("short"))
        long.grow(70)
        short.grow(20)
        new.grow(15)
        assert refused == ["long"]
        with pytest.raises(Overloaded):
            long.grow(1)
        new.grow(60)


def test_one_that_would_be_the_longest_itself_is_refused():
    budget = ByteBudget(100)
    with budget.hold() as first, budget.hold() as second:
        first.grow(50)
        with pytest.raises(Overloaded):
            second.grow(51)
        second.grow(49)


def test_one_that_is_read_whole_stays_until_its_block_ends():
    budget, refused = ByteBudget(100), []
    with budget.hold() as whole:
        whole.read(lambda: refused.append("whole"))
        whole.grow(90)
        whole.keep()
        with budget.hold() as other, pytest.raises(Overloaded):
            other.grow(11)
    with budget.hold() as other:
        other.grow(100)
    assert not refused


def test_room_for_a_piece_takes_no_longer_the_more_are_being_read():
    def seconds(count):
        budget = ByteBudget(100 * count)
        holds = [budget.hold() for _ in range(count)]
        for hold in holds:
            hold.grow(100)
        fastest = float("inf")
        for hold in holds[:20]:
            began = time.thread_time()
            with pytest.raises(Overloaded):
                hold.grow(1)
            fastest = min(fastest, time.thread_time() - began)
        return fastest

    assert seconds(20_000) < 50 * seconds(2)
