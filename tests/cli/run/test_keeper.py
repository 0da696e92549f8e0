from __future__ import annotations

import asyncio

import pytest

from services.cli.run.keeper import Keeper, RestartPolicy
from services.common.errors import Unavailable

QUICK = RestartPolicy(first_s=0.05)


@pytest.fixture
def keep(progress, until):
    """A keeper whose child is healthy once it said so; its task, cancelled at the end."""
    tasks = []

    def start(child, *, start_timeout_s=20.0):
        async def says_up():
            await until(lambda: child.log.exists() and "up" in child.tail(), 60)

        keeper = Keeper("decode", child, says_up, progress, start_timeout_s, QUICK)
        tasks.append(asyncio.ensure_future(keeper.run()))
        return keeper, tasks[-1]

    yield start
    for task in tasks:
        task.cancel()


async def test_a_healthy_child_is_announced(make_child, keep, obedient, screen):
    keeper, _ = keep(make_child(obedient))
    await asyncio.wait_for(keeper.ready.wait(), 10)
    assert "decode   ready in " in screen.getvalue()


async def test_a_crashed_child_is_restarted(make_child, keep, obedient, screen, until, is_running):
    child = make_child(obedient)
    keeper, _ = keep(child)
    await asyncio.wait_for(keeper.ready.wait(), 10)
    first = child.pid
    child.kill()
    await until(lambda: child.pid != first)
    assert is_running(child.pid)
    assert "ended (killed by SIGKILL); restarting in 0.1 s" in screen.getvalue()


async def test_a_child_that_fails_at_the_first_start_ends_it_all_with_its_own_words(make_child, keep):
    _, task = keep(make_child("raise SystemExit('no such checkpoint')"))
    with pytest.raises(Unavailable, match=r"decode did not start \(exit status 1\)(.|\n)*no such checkpoint"):
        await asyncio.wait_for(task, 10)


async def test_a_child_that_is_not_healthy_in_time_is_killed(make_child, keep, is_running):
    child = make_child("import time; time.sleep(60)")
    _, task = keep(child, start_timeout_s=0.5)
    with pytest.raises(Unavailable, match="not healthy within"):
        await asyncio.wait_for(task, 10)
    assert not is_running(child.pid)


def test_pauses_double_up_to_the_longest():
    policy = RestartPolicy(first_s=1.0, longest_s=5.0)
    assert [policy.pause(crashes) for crashes in (1, 2, 3, 4, 100)] == [1.0, 2.0, 4.0, 5.0, 5.0]
