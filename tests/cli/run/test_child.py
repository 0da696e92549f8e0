from __future__ import annotations

import asyncio
import os
import signal

import pytest

from services.cli.run.child import describe_exit
from tests.support.waiting import until


async def test_output_and_errors_are_in_the_log(make_child):
    child = make_child("import sys; print('said'); print('complained', file=sys.stderr); sys.exit(3)")
    await child.start()
    assert await child.wait() == 3
    assert sorted(child.tail()) == ["complained", "said"]


async def test_only_the_end_of_a_long_log_is_shown(make_child):
    child = make_child("for n in range(1000): print(n)")
    await child.start()
    await child.wait()
    assert child.tail() == [str(n) for n in range(980, 1000)]


async def test_a_restart_adds_to_the_log(make_child):
    child = make_child("print('once')")
    for _ in range(2):
        await child.start()
        await child.wait()
    assert child.tail() == ["once", "once"]


async def test_a_child_that_obeys_stops_by_itself(make_child, obedient, is_running):
    child = make_child(obedient)
    await child.start()
    await until(child.tail, 30)
    assert await child.stop(60)
    assert not is_running(child.pid)


async def test_a_child_that_ignores_the_request_is_killed(make_child, stubborn, is_running):
    child = make_child(stubborn)
    await child.start()
    await until(child.tail, 30)
    assert not await child.stop(0.2)
    assert not is_running(child.pid)


async def test_stopping_what_does_not_run_is_no_error(make_child):
    child = make_child("pass")
    assert await child.stop(1)
    await child.start()
    await child.wait()
    assert await child.stop(1)


async def test_the_terminals_interrupt_does_not_reach_a_child(make_child, obedient):
    child = make_child(obedient)
    await child.start()
    await until(child.tail, 30)
    assert os.getpgid(child.pid) != os.getpgid(0)
    await child.stop(60)


def test_an_exit_status_is_told_in_words():
    assert describe_exit(2) == "exit status 2"
    assert describe_exit(-6) == "killed by SIGABRT"
    assert describe_exit(-99) == "killed by signal 99"


async def test_a_child_that_asks_goes_on_after_sigterm_and_ends_when_it_is_stopped(make_child, asking):
    child = make_child(asking, asks=True)
    await child.start()
    await until(child.tail, 30)
    os.kill(child.pid, signal.SIGTERM)
    async with asyncio.timeout(30):
        assert await child.wait_or_asked() is None
    assert child.running
    assert await child.stop(60)
    assert (await child.wait(), await child.wait_or_asked()) == (0, 0)
    assert child.tail() == ["up", "told to end"]


async def test_a_child_that_asks_and_was_not_asked_to_end_is_stopped_in_the_same_way(make_child, asking):
    child = make_child(asking, asks=True)
    await child.start()
    await until(child.tail, 30)
    assert await child.stop(60)
    assert await child.wait_or_asked() == 0


async def test_each_start_of_a_child_asks_for_itself(make_child, asking):
    child = make_child(asking, asks=True)
    await child.start()
    await until(child.tail, 30)
    os.kill(child.pid, signal.SIGTERM)
    assert await child.wait_or_asked() is None
    child.kill()
    await child.wait()
    await child.start()
    await until(lambda: child.tail().count("up") == 2, 30)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await child.wait_or_asked()


async def test_a_child_that_has_not_begun_to_listen_is_stopped_too(make_child):
    child = make_child("import time; print('up', flush=True); time.sleep(1000)", asks=True)
    await child.start()
    await until(child.tail, 30)
    assert await child.stop(60)
    assert await child.wait() == -signal.SIGTERM
