"""Threads of one process share its cores and its interpreter."""

from __future__ import annotations

import sys

import pytest

from services.common.fairness.cores import Rests, switch_quickly


class Thread:
    """A thread whose work the test does, a millisecond after the other."""

    def __init__(self, *, wanted=True):
        self.wanted = wanted
        self.now = self.worked = self.rested = 0.0
        self.rests = Rests(lambda: self.wanted, self._sleep, lambda: self.now, lambda: self.worked)

    def _sleep(self, seconds):
        self.now += seconds
        self.rested += seconds

    def work(self, seconds, *, held_up=0.0):
        for _ in range(round(seconds * 1000)):
            self.worked += 0.001
            self.now += 0.001 + held_up / (1000 * seconds)
            self.rests.take()


def test_work_that_is_held_up_leaves_four_fifths_of_the_time_to_others():
    thread = Thread()
    thread.work(0.02, held_up=0.02)
    assert thread.rested == pytest.approx(0.08)


def test_work_that_nothing_holds_up_does_not_rest():
    thread = Thread()
    thread.work(0.02, held_up=0.002)
    assert thread.rested == 0.0


def test_nobody_rests_for_others_of_the_same_tenant():
    thread = Thread(wanted=False)
    thread.work(0.02, held_up=0.02)
    assert thread.rested == 0.0


def test_a_rest_is_over_when_nobody_else_comes():
    thread = Thread()
    thread.work(0.002, held_up=0.002)
    rested = thread.rested
    thread.work(0.02)
    assert thread.rested == rested > 0


def test_a_piece_of_work_that_cannot_be_divided_means_a_rest_of_a_tenth_of_a_second_at_most():
    thread = Thread()
    thread.worked, thread.now = 3.0, 6.0
    thread.rests.take()
    assert thread.rested == pytest.approx(0.1)


def test_pieces_shorter_than_a_millisecond_count_together():
    thread = Thread()
    for _ in range(6):
        thread.worked += 0.0004
        thread.now += 0.0008
        thread.rests.take()
    assert thread.rested == pytest.approx(2 * 4 * 0.0012)


def test_no_thread_waits_for_the_interpreter_as_long_as_python_lets_it():
    before = sys.getswitchinterval()
    try:
        switch_quickly()
        assert sys.getswitchinterval() <= 0.001
    finally:
        sys.setswitchinterval(before)
