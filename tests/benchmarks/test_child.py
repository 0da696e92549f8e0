"""A child's fate is known at once."""

from __future__ import annotations

import time
from contextlib import closing

import pytest

from benchmarks.child import Blocked, Child, Wrong

DOUBLES = "tests.benchmarks.doubles"


def soon():
    return time.monotonic() + 60


def start(function, *arguments):
    return closing(Child("peer", DOUBLES, function, *arguments))


def test_what_a_child_sends_is_received_in_order_and_last_what_it_returns():
    with start("count", 2) as child:
        assert [child.receive(soon()) for _ in range(3)] == [0, 1, "counted"]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("block", Blocked, "no such memory"),
        ("be_wrong", Wrong, "other bytes"),
        ("fail", RuntimeError, "a defect"),
    ],
)
def test_what_a_child_raises_is_raised_here(function, error, message):
    with start(function) as child, pytest.raises(error, match=message):
        child.receive(soon())


def test_a_module_that_is_not_there_blocks():
    with (
        closing(Child("peer", "no_such_module", "run")) as child,
        pytest.raises(Blocked, match="no_such_module"),
    ):
        child.receive(soon())


def test_a_child_that_dies_is_noticed_at_once():
    began = time.monotonic()
    with start("die") as child, pytest.raises(Blocked, match="the peer ended by SIGKILL"):
        child.receive(soon())
    assert time.monotonic() - began < 20


def test_the_death_of_another_child_ends_the_wait_for_this_one():
    with start("die") as other, start("hang") as child:
        with pytest.raises(Blocked, match="SIGKILL"):
            child.receive(soon(), other)
        child._process.kill()


def test_a_child_that_takes_too_long_blocks():
    began = time.monotonic()
    with start("hang") as child:
        with pytest.raises(Blocked, match="did not do its work in time"):
            child.receive(time.monotonic() + 0.1)
        assert time.monotonic() - began < 20
        child._process.kill()


def test_a_child_that_waits_ends_when_it_is_closed():
    child = Child("peer", DOUBLES, "wait_for_the_end")
    assert child.receive(soon()) == "waiting"
    child.close()
    assert child._process.exitcode == 0
