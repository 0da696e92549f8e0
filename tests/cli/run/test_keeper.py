from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.cli.run.keeper import Keeper, RestartPolicy
from services.common.errors import Unavailable
from tests.support.virtual_time import advance, idle
from tests.support.waiting import until

QUICK = RestartPolicy(first_s=0.05)
# For a Python that starts on a busy machine.
PATIENCE_S = 60


class FakeChild:
    """A child without a process: the test ends its lives. `lives`: one future of an exit status per start."""

    log = Path("child.log")

    def __init__(self):
        self.lives = []

    async def start(self):
        self.lives.append(asyncio.get_running_loop().create_future())

    async def wait(self):
        return await asyncio.shield(self.lives[-1])

    def kill(self):
        self.end(-9)

    def tail(self):
        return ["the last words"]

    def end(self, status):
        self.lives[-1].set_result(status)


@pytest.fixture
def keep(progress):
    """Runs a keeper in a task, which is cancelled at the end."""
    tasks = []

    def start(keeper):
        tasks.append(asyncio.ensure_future(keeper.run()))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()


def real_keeper(child, progress, policy=None):
    """A keeper whose child is healthy once it said so."""

    async def says_up():
        await until(lambda: child.log.exists() and "up" in child.tail(), PATIENCE_S)

    return Keeper("decode", child, says_up, progress, PATIENCE_S, policy)


def virtual_keeper(child, progress, *, loads_s=1.0, **options):
    """A keeper whose child is healthy after `loads_s` of the loop's time."""
    clock = asyncio.get_running_loop().time
    return Keeper("decode", child, lambda: advance(loads_s), progress, 20.0, clock=clock, **options)


@pytest.mark.virtual_time
async def test_while_a_service_loads_its_checkpoint_the_screen_says_how_far_it_is(
    keep, progress, screen, tmp_path
):
    child = FakeChild()
    child.log = tmp_path / "decode.log"
    child.log.write_text("")
    keep(virtual_keeper(child, progress, loads_s=10.0))
    await advance(1)
    with child.log.open("a") as log:
        values = '"shards": 12, "of_shards": 64, "done_bytes": 110000000000, "total_bytes": 595000000000'
        log.write(f'{{"event": "loading weights", {values}}}\n')
    await advance(1)
    assert "12 of 64 shards, 110.0 of 595.0 GB" in screen.getvalue()


async def test_a_healthy_child_is_announced(make_child, keep, progress, obedient, screen):
    keeper = real_keeper(make_child(obedient), progress)
    keep(keeper)
    async with asyncio.timeout(PATIENCE_S):
        await keeper.ready.wait()
    assert "decode   ready in " in screen.getvalue()


async def test_a_crashed_child_is_restarted(make_child, keep, progress, obedient, screen, is_running):
    child = make_child(obedient)
    keeper = real_keeper(child, progress, QUICK)
    keep(keeper)
    async with asyncio.timeout(PATIENCE_S):
        await keeper.ready.wait()
    first = child.pid
    child.kill()
    await until(lambda: child.pid != first, PATIENCE_S)
    assert is_running(child.pid)
    assert "ended (killed by SIGKILL); restarting in 0.1 s" in screen.getvalue()


async def test_a_child_that_fails_at_the_first_start_ends_it_all_with_its_own_words(
    make_child, keep, progress
):
    task = keep(real_keeper(make_child("raise SystemExit('no such checkpoint')"), progress))
    with pytest.raises(Unavailable, match=r"decode did not start \(exit status 1\)(.|\n)*no such checkpoint"):
        async with asyncio.timeout(PATIENCE_S):
            await task


@pytest.mark.virtual_time
async def test_a_child_that_is_not_healthy_in_time_is_killed(keep, progress):
    child = FakeChild()
    task = keep(virtual_keeper(child, progress, loads_s=20.5))
    await advance(19.5)
    assert not child.lives[0].done()
    with pytest.raises(Unavailable, match=r"not healthy within 20 s(.|\n)*the last words"):
        await task
    assert child.lives[0].result() == -9


@pytest.mark.virtual_time
async def test_the_pause_before_a_restart_doubles_until_a_child_lives_long_enough(keep, progress, screen):
    child = FakeChild()
    policy = RestartPolicy(first_s=1.0, longest_s=30.0, forgive_s=60.0)
    keep(virtual_keeper(child, progress, policy=policy))
    for starts, (life_s, pause_s) in enumerate([(2, 1), (2, 2), (2, 4), (61, 1), (2, 2)], start=1):
        await idle()
        assert len(child.lives) == starts
        await advance(life_s)
        child.end(1)
        await advance(pause_s - 0.01)
        assert len(child.lives) == starts
        await advance(0.02)
    assert len(child.lives) == 6
    assert "decode   ready in 1.0 s" in screen.getvalue()


def test_pauses_double_up_to_the_longest():
    policy = RestartPolicy(first_s=1.0, longest_s=5.0)
    assert [policy.pause(crashes) for crashes in (1, 2, 3, 4, 100)] == [1.0, 2.0, 4.0, 5.0, 5.0]
