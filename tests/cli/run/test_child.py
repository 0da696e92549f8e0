from __future__ import annotations

import os

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
