from __future__ import annotations

import asyncio

import pytest

from services.cli.run.keeper import Keeper
from services.cli.run.supervisor import Supervisor
from services.common.errors import Unavailable


@pytest.fixture
def supervise(make_child, progress, until):
    """A running supervisor over program texts: its task, children, and the events that steer it."""
    tasks = []

    def start(programs, stop_timeout_s=5.0):
        children = [make_child(program, role) for role, program in programs.items()]
        keepers = [
            Keeper(role, child, lambda child=child: until(lambda: "up" in child.tail()), progress, 20)
            for role, child in zip(programs, children, strict=True)
        ]
        stop, hurry, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        supervisor = Supervisor(keepers, progress, stop_timeout_s)
        tasks.append(asyncio.ensure_future(supervisor.run(stop, hurry, ready.set)))
        return tasks[-1], children, stop, hurry, ready

    yield start
    for task in tasks:
        task.cancel()


async def test_all_are_ready_then_all_are_stopped(supervise, obedient, is_running):
    task, children, stop, _, ready = supervise({"vision": obedient, "decode": obedient})
    await asyncio.wait_for(ready.wait(), 10)
    assert all(is_running(child.pid) for child in children)
    stop.set()
    await asyncio.wait_for(task, 10)
    assert not any(is_running(child.pid) for child in children)


async def test_a_stop_before_all_are_ready_leaves_nothing_behind(supervise, obedient, until, is_running):
    task, children, stop, _, ready = supervise({"vision": obedient, "decode": "import time; time.sleep(60)"})
    await until(lambda: all(child.pid for child in children))
    stop.set()
    await asyncio.wait_for(task, 10)
    assert not ready.is_set()
    assert not any(is_running(child.pid) for child in children)


async def test_one_that_cannot_start_takes_the_others_down(supervise, obedient, is_running):
    task, children, _, _, ready = supervise({"vision": obedient, "decode": "raise SystemExit(2)"})
    with pytest.raises(Unavailable, match="decode did not start"):
        await asyncio.wait_for(task, 10)
    assert not ready.is_set()
    assert not is_running(children[0].pid)


async def test_a_straggler_is_killed_and_named(supervise, stubborn, screen, is_running):
    task, children, stop, _, ready = supervise({"vision": stubborn}, stop_timeout_s=0.3)
    await asyncio.wait_for(ready.wait(), 10)
    stop.set()
    await asyncio.wait_for(task, 10)
    assert not is_running(children[0].pid)
    assert "vision did not stop within" in screen.getvalue()


async def test_a_second_request_to_stop_does_not_wait(supervise, stubborn):
    task, _, stop, hurry, ready = supervise({"vision": stubborn}, stop_timeout_s=60)
    await asyncio.wait_for(ready.wait(), 10)
    stop.set()
    await asyncio.sleep(0.1)
    assert not task.done()
    hurry.set()
    await asyncio.wait_for(task, 5)
