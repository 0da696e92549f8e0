"""The engine thread."""

from __future__ import annotations

import threading

import pytest

from services.engine.serving.loop import EngineLoop


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
