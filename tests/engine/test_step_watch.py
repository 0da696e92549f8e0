"""When a step counts as hanging."""

from __future__ import annotations

import pytest

from services.engine.step_watch import UNKNOWN_S, StepWatch
from tests.support.manual_clock import ManualClock

DECODE = (4, 4 * 500)
CHUNK = (512, 512 * 4000)


class Engine:
    """An engine thread and its watch, on a clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.watch = StepWatch(self.clock)

    def steps(self, size: tuple[int, int], seconds: float, count: int = 20) -> None:
        for _ in range(count):
            self.begin(size)
            self.clock.now += seconds
            self.watch.end()

    def begin(self, size: tuple[int, int] | None, *, is_step: bool = True) -> None:
        self.watch.begin(is_step=is_step)
        if size is not None:
            self.watch.computes(*size)

    def hangs_after(self, limit_s: float = 1000.0) -> float | None:
        """Seconds of watching until the turn counts as hanging; None: it did not within the limit."""
        began = self.clock()
        self.watch.tick()
        while self.clock() - began < limit_s:
            self.clock.now += self.watch.tick_s
            if self.watch.tick() is not None:
                return self.clock() - began
        return None


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_a_short_step_hangs_after_two_seconds(engine):
    engine.steps(DECODE, 0.01)
    engine.begin(DECODE)
    assert engine.hangs_after() == pytest.approx(2.1, abs=0.11)


def test_the_deadline_of_longer_steps_is_twenty_times_their_99th_percentile(engine):
    engine.steps(DECODE, 0.5, 100)
    engine.steps(DECODE, 60.0, 1)
    engine.begin(DECODE)
    assert engine.hangs_after() == pytest.approx(10.1, abs=0.11)


def test_what_is_wrong_is_said_in_a_sentence(engine):
    engine.steps(DECODE, 0.25)
    engine.begin(DECODE)
    engine.watch.tick()
    for _ in range(52):
        engine.clock.now += 0.1
        message = engine.watch.tick()
    assert message == "a step of the engine has run for 5.2 s; its deadline is 5.0 s"


def test_a_step_larger_than_all_before_may_take_long_and_so_may_the_first_ones_of_its_kind(engine):
    engine.steps(DECODE, 0.01)
    engine.begin(CHUNK)
    assert engine.hangs_after(UNKNOWN_S - 1) is None
    engine.watch.end()
    engine.steps(CHUNK, 0.3, 10)
    engine.begin(CHUNK)
    assert engine.hangs_after() == pytest.approx(6.1, abs=0.11)


def test_a_step_in_which_a_kernel_is_compiled_may_take_long_and_does_not_count_later(engine):
    engine.steps(DECODE, 0.01)
    engine.begin(DECODE)
    engine.watch.exempt()
    assert engine.hangs_after(UNKNOWN_S - 1) is None
    engine.watch.end()
    engine.begin(DECODE)
    assert engine.hangs_after() == pytest.approx(2.1, abs=0.11)


def test_a_step_that_only_waits_for_the_one_before_has_its_deadline(engine):
    engine.steps(DECODE, 0.01)
    engine.begin(None)
    assert engine.hangs_after() == pytest.approx(2.1, abs=0.11)


def test_messages_may_take_long_and_idle_turns_do_not_shorten_the_deadline(engine):
    engine.steps(DECODE, 0.5)
    engine.begin(None, is_step=False)
    assert engine.hangs_after(UNKNOWN_S - 1) is None
    engine.watch.end()
    for _ in range(1000):
        engine.begin(None)
        engine.watch.end()
    engine.begin(DECODE)
    assert engine.hangs_after() == pytest.approx(10.1, abs=0.11)


def test_time_in_which_the_whole_process_stands_still_does_not_count(engine):
    engine.steps(DECODE, 0.01)
    engine.begin(DECODE)
    engine.watch.tick()
    engine.clock.now += 40
    assert engine.watch.tick() is None
    assert engine.hangs_after() == pytest.approx(1.9, abs=0.11)


def test_an_idle_thread_never_hangs(engine):
    engine.steps(DECODE, 0.01)
    assert engine.hangs_after(2 * UNKNOWN_S) is None
