from __future__ import annotations

import asyncio
import re

import pytest

from services.cli.run.keeper import Keeper
from services.cli.run.stopping import Stopping, unknown
from services.cli.run.successors import Instance
from services.cli.run.supervisor import Supervisor
from services.common.errors import Unavailable
from tests.support.waiting import until

# For Pythons that start on a busy machine.
PATIENCE_S = 60


@pytest.fixture
def supervise(make_child, progress):
    """A running supervisor over program texts: its task, children, and the events that steer it."""
    tasks = []

    def start(programs, stop_timeout_s=PATIENCE_S, connected=at_once, requests=unknown):
        children = [make_child(program, role) for role, program in programs.items()]
        keepers = [
            Keeper(role, Instance(child, "", lambda child=child: says(child, "up")), progress, PATIENCE_S)
            for role, child in zip(programs, children, strict=True)
        ]
        stop, hurry, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        stopping = Stopping(keepers, progress, stop_timeout_s, requests)
        supervisor = Supervisor(keepers, progress, stopping, connected)
        tasks.append(asyncio.ensure_future(supervisor.run(stop, hurry, ready.set)))
        return tasks[-1], children, stop, hurry, ready

    yield start
    for task in tasks:
        task.cancel()


async def at_once():
    pass


async def says(child, words):
    await until(lambda: words in child.tail(), PATIENCE_S)


async def within_patience(waited):
    async with asyncio.timeout(PATIENCE_S):
        await waited


async def test_all_are_ready_then_all_are_stopped(supervise, obedient, is_running):
    task, children, stop, _, ready = supervise({"vision": obedient, "decode": obedient})
    await within_patience(ready.wait())
    assert all(is_running(child.pid) for child in children)
    stop.set()
    await within_patience(task)
    assert not any(is_running(child.pid) for child in children)


async def test_the_suite_is_ready_only_when_its_gateway_has_found_the_workers(supervise, obedient):
    asked, found = asyncio.Event(), asyncio.Event()

    async def connected():
        asked.set()
        await found.wait()

    *_, ready = supervise({"vision": obedient, "gateway": obedient}, connected=connected)
    await within_patience(asked.wait())
    assert not ready.is_set()
    found.set()
    await within_patience(ready.wait())


async def test_a_stop_before_all_are_ready_leaves_nothing_behind(supervise, obedient, silent, is_running):
    task, children, stop, _, ready = supervise({"vision": obedient, "decode": silent})
    await until(lambda: all(child.pid for child in children), PATIENCE_S)
    stop.set()
    await within_patience(task)
    assert not ready.is_set()
    assert not any(is_running(child.pid) for child in children)


async def test_one_that_cannot_start_takes_the_others_down(supervise, obedient, is_running):
    task, children, _, _, ready = supervise({"vision": obedient, "decode": "raise SystemExit(2)"})
    with pytest.raises(Unavailable, match="decode did not start"):
        await within_patience(task)
    assert not ready.is_set()
    assert not is_running(children[0].pid)


async def test_a_straggler_is_killed_and_named(supervise, stubborn, screen, is_running):
    task, children, stop, _, ready = supervise({"vision": stubborn}, stop_timeout_s=0.3)
    await within_patience(ready.wait())
    stop.set()
    await within_patience(task)
    assert not is_running(children[0].pid)
    assert "vision did not stop within" in screen.getvalue()


async def test_a_second_request_to_stop_does_not_wait(supervise, stubborn, screen):
    task, children, stop, hurry, ready = supervise({"vision": stubborn}, stop_timeout_s=1_000)
    await within_patience(ready.wait())
    stop.set()
    await says(children[0], "asked to stop")
    assert not task.done()
    hurry.set()
    await within_patience(task)


async def test_workers_serve_until_the_gateway_is_gone(supervise, obedient, stubborn, is_running):
    task, (gateway, decode), stop, _, ready = supervise({"gateway": stubborn, "decode": obedient})
    await within_patience(ready.wait())
    stop.set()
    await says(gateway, "asked to stop")
    assert is_running(decode.pid)
    gateway.kill()
    await within_patience(task)
    assert not is_running(decode.pid)


async def test_a_gateway_that_does_not_stop_leaves_the_workers_time_within_the_same_bound(
    supervise, obedient, stubborn, screen, is_running
):
    task, children, stop, _, ready = supervise({"gateway": stubborn, "decode": obedient}, stop_timeout_s=2.0)
    await within_patience(ready.wait())
    stop.set()
    await within_patience(task)
    assert not any(is_running(child.pid) for child in children)
    assert "gateway did not stop within" in screen.getvalue()
    assert "decode did not stop within" not in screen.getvalue()


async def test_a_stop_says_what_it_waits_for(supervise, obedient, stubborn, screen):
    asked = []

    async def requests():
        asked.append(True)
        return 3

    programs = {"gateway": stubborn, "prefill": obedient, "decode": obedient}
    task, (gateway, *_), stop, _, ready = supervise(programs, stop_timeout_s=40, requests=requests)
    await within_patience(ready.wait())
    stop.set()
    await says(gateway, "asked to stop")
    gateway.kill()
    await within_patience(task)
    said = [line for line in screen.getvalue().splitlines() if line.startswith(("stopping", "waiting"))]
    assert said[:2] == [
        "stopping… (Ctrl-C again does not wait)",
        "waiting for gateway (3 requests may finish), 35 s at most",
    ]
    assert re.fullmatch(r"waiting for prefill, decode, (39|40) s at most", said[2])
    assert asked == [True]
