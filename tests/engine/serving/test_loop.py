"""The engine thread."""

from __future__ import annotations

import threading

import pytest

from services.common.errors import Unavailable
from services.engine.serving.loop import EngineLoop
from services.engine.step_watch import StepWatch
from tests.support.manual_clock import ManualClock
from tests.support.waiting import wait_until


def test_messages_run_in_order_between_steps_on_one_thread():
    seen: list[object] = []
    loop = EngineLoop("test", lambda: False, lambda error: seen.append(error))
    loop.start()
    for number in range(100):
        loop.post(lambda number=number: seen.append((number, threading.current_thread().name)))
    loop.call(lambda: None).result(5)
    loop.stop()
    assert seen == [(number, "test") for number in range(100)]


def test_a_step_that_did_work_is_followed_by_the_next_without_waiting():
    steps = 0
    done = threading.Event()

    def step() -> bool:
        nonlocal steps
        steps += 1
        if steps == 1000:
            done.set()
        return steps < 1000

    loop = EngineLoop("test", step, lambda error: None, idle_wait_s=60)
    loop.start()
    loop.call(lambda: None).result(5)
    assert done.wait(5)
    loop.stop()


def test_an_exception_of_a_call_belongs_to_its_caller_and_the_loop_goes_on():
    loop = EngineLoop("test", lambda: False, lambda error: None)
    loop.start()
    with pytest.raises(ZeroDivisionError):
        loop.call(lambda: 1 // 0).result(5)
    assert loop.call(lambda: 42).result(5) == 42
    loop.stop()


def test_an_exception_of_a_step_ends_the_thread_and_is_reported():
    reported: list[BaseException] = []
    done = threading.Event()

    def step() -> bool:
        raise ValueError("broken state")

    def on_fatal(error: BaseException) -> None:
        reported.append(error)
        done.set()

    loop = EngineLoop("test", step, on_fatal)
    loop.start()
    assert done.wait(5)
    loop.stop()
    assert isinstance(reported[0], ValueError)


def test_a_step_that_hangs_is_reported_while_it_still_runs():
    clock = ManualClock()
    watch = StepWatch(clock)
    watch.tick_s = 0.001
    reported: list[BaseException] = []
    told, release, hangs = threading.Event(), threading.Event(), threading.Event()

    def step() -> bool:
        watch.computes(1, 100)
        if hangs.is_set():
            release.wait(20)
        return True

    def on_fatal(error: BaseException) -> None:
        reported.append(error)
        told.set()

    loop = EngineLoop("test", step, on_fatal, watch=watch)
    loop.start()
    for _ in range(20):
        loop.call(lambda: None).result(5)
    hangs.set()
    while not told.is_set():
        clock.now += 0.1
        told.wait(0.002)
    release.set()
    loop.stop()
    [error] = reported
    assert isinstance(error, Unavailable)
    assert "a step of the engine has run for" in error.message


def test_a_watched_loop_ends_its_watching_thread_too():
    loop = EngineLoop("watched", lambda: False, lambda error: None, watch=StepWatch())
    loop.start()
    loop.stop()
    wait_until(lambda: not any(thread.name == "watched-watch" for thread in threading.enumerate()))
