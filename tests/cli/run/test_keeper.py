from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.cli.run.keeper import Keeper, RestartPolicy
from services.cli.run.successors import Instance
from services.common.errors import Unavailable
from tests.support.virtual_time import advance, idle
from tests.support.waiting import until

QUICK = RestartPolicy(first_s=0.05)
# For a Python that starts on a busy machine.
PATIENCE_S = 60


class FakeChild:
    """A child without a process: the test ends its lives. `lives`: one future of an exit status per start.

    `drains_s`: how long it lives after it is stopped.
    """

    log = Path("child.log")
    pid = 7

    def __init__(self, drains_s=5.0):
        self.lives = []
        self.asked = asyncio.Event()
        self.stopped = False
        self._drains_s = drains_s

    @property
    def running(self):
        return bool(self.lives) and not self.lives[-1].done()

    async def start(self):
        self.lives.append(asyncio.get_running_loop().create_future())
        self.asked.clear()

    async def wait(self):
        return await asyncio.shield(self.lives[-1])

    async def wait_or_asked(self):
        ended, asked = asyncio.ensure_future(self.wait()), asyncio.ensure_future(self.asked.wait())
        await asyncio.wait((ended, asked), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        return ended.result() if ended.done() else None

    async def stop(self, timeout_s):
        self.stopped = True
        if self.running:
            await advance(min(self._drains_s, timeout_s))
            self.end(0 if self._drains_s < timeout_s else -9)
        return self._drains_s < timeout_s

    def kill(self):
        self.end(-9)

    def tail(self):
        return ["the last words"]

    def end(self, status):
        if self.running:
            self.lives[-1].set_result(status)


class FakeSuccessors:
    """Successors without ports: fake children that are healthy after 3 s and used 1 s later.

    `made`: their instances; `published`: the addresses that were listed, one list per change.
    """

    def __init__(self, no_room=None, turn=None):
        self.no_room = no_room
        self.turn = turn or asyncio.Lock()
        self.made = []
        self.published = []

    async def why_not(self, present):
        return self.no_room

    def make(self):
        number = len(self.made) + 1
        self.made.append(Instance(FakeChild(), f"successor {number}", lambda: advance(3.0)))
        return self.made[-1]

    def publish(self, *instances):
        self.published.append([instance.address for instance in instances])

    async def until_used(self, instance):
        await advance(1.0)


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

    return Keeper("decode", Instance(child, "", says_up), progress, PATIENCE_S, policy=policy)


def virtual_keeper(child, progress, *, loads_s=1.0, **options):
    """A keeper whose child is healthy after `loads_s` of the loop's time."""
    clock = asyncio.get_running_loop().time
    first = Instance(child, "first", lambda: advance(loads_s))
    return Keeper("decode", first, progress, 20.0, 30.0, clock=clock, **options)


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


@pytest.mark.virtual_time
async def test_every_change_of_a_service_is_recorded(keep, progress):
    states, present = [], {}

    def record(role, **changes):
        present.update(changes)
        if not states or states[-1][0] != present["state"]:
            states.append((present["state"], present["address"], present["starts"]))

    child, successors = FakeChild(), FakeSuccessors()
    policy = RestartPolicy(first_s=1.0)
    keeper = virtual_keeper(child, progress, successors=successors, policy=policy, record=record)
    keep(keeper)
    await advance(1.1)
    child.end(-9)
    await advance(2.1)
    child.asked.set()
    await advance(10.0)
    await keeper.stop(30.0)
    assert states == [
        ("starting", "first", 1),
        ("serving", "first", 1),
        ("restarting", "first", 1),
        ("starting", "first", 2),
        ("serving", "first", 2),
        ("replacing", "first", 2),
        ("serving", "successor 1", 3),
        ("stopping", "successor 1", 3),
    ]
    assert present["pid"] == 7


def test_pauses_double_up_to_the_longest():
    policy = RestartPolicy(first_s=1.0, longest_s=5.0)
    assert [policy.pause(crashes) for crashes in (1, 2, 3, 4, 100)] == [1.0, 2.0, 4.0, 5.0, 5.0]


@pytest.fixture
async def replaced(keep, progress):
    """A worker that serves, its keeper and its successors."""
    child, successors = FakeChild(), FakeSuccessors()
    keeper = virtual_keeper(child, progress, successors=successors)
    keep(keeper)
    await advance(1.1)
    return child, keeper, successors


@pytest.mark.virtual_time
async def test_a_worker_that_asks_serves_until_its_successor_is_used_and_then_ends(replaced, screen):
    child, keeper, successors = replaced
    child.asked.set()
    await advance(2.9)
    assert (successors.published, child.stopped, keeper.child) == ([], False, child)
    await advance(0.6)
    assert (successors.published, child.stopped) == ([["first", "successor 1"]], False)
    await advance(0.7)
    assert successors.published[1:] == [["successor 1"]]
    assert (child.stopped, child.running) == (True, True)
    assert keeper.child is successors.made[0].child
    await advance(5.0)
    assert child.lives[0].result() == 0
    assert len(child.lives) == len(successors.made) == 1
    assert "decode   the former one has ended (exit status 0)" in screen.getvalue()


@pytest.mark.virtual_time
async def test_workers_that_ask_at_once_are_replaced_one_after_the_other(replaced, keep, progress):
    child, _, successors = replaced
    other, others = FakeChild(), FakeSuccessors(turn=successors.turn)
    keep(virtual_keeper(other, progress, successors=others))
    await advance(1.1)
    child.asked.set()
    other.asked.set()
    await advance(3.9)
    assert (len(successors.made), others.made, other.stopped) == (1, [], False)
    await advance(4.5)
    assert (len(others.made), other.stopped) == (1, True)


@pytest.mark.virtual_time
async def test_a_successor_that_asks_while_it_starts_or_later_is_replaced_as_well(replaced):
    child, keeper, successors = replaced
    child.asked.set()
    await advance(1.0)
    first = successors.made[0].child
    first.asked.set()
    await advance(3.5)
    assert (child.stopped, first.stopped, keeper.child) == (True, False, first)
    await advance(4.0)
    second = successors.made[1].child
    assert (first.stopped, keeper.child) == (True, second)
    assert successors.published[-2:] == [["successor 1", "successor 2"], ["successor 2"]]
    second.asked.set()
    await advance(4.5)
    assert keeper.child is successors.made[2].child


@pytest.mark.virtual_time
async def test_a_successor_that_ends_while_it_starts_is_tried_again(replaced, screen):
    child, keeper, successors = replaced
    child.asked.set()
    await advance(1.0)
    successors.made[0].child.end(-15)
    await advance(4.5)
    assert (child.stopped, keeper.child) == (True, successors.made[1].child)
    assert "the successor did not start (killed by SIGTERM)" in screen.getvalue()


@pytest.mark.virtual_time
async def test_a_successor_that_ends_before_it_is_used_leaves_the_worker_listed_alone(replaced):
    child, keeper, successors = replaced
    child.asked.set()
    await advance(3.5)
    successors.made[0].child.end(1)
    await advance(1.0)
    assert (successors.published[-1], child.stopped, keeper.child) == (["first"], False, child)
    await advance(4.5)
    assert keeper.child is successors.made[1].child


@pytest.mark.virtual_time
async def test_if_no_successor_starts_the_worker_drains_first(replaced):
    child, keeper, successors = replaced
    child.asked.set()
    for _ in range(3):
        await advance(1.0)
        assert not child.stopped
        successors.made[-1].child.end(1)
    await advance(1.0)
    assert (child.stopped, len(successors.made)) == (True, 3)
    await advance(4.5)
    assert (keeper.child, len(child.lives), child.running) == (child, 2, True)


@pytest.mark.virtual_time
async def test_without_room_the_worker_drains_first_and_its_successor_starts_at_once(replaced, screen):
    child, _, successors = replaced
    successors.no_room = "it took up to 9 MB, and 1 MB are available"
    child.asked.set()
    await advance(4.9)
    assert (child.stopped, len(child.lives), successors.made) == (True, 1, [])
    await advance(0.2)
    assert (len(child.lives), child.running, successors.published) == (2, True, [])
    assert (
        "ends before its successor starts (it took up to 9 MB, and 1 MB are available)" in screen.getvalue()
    )


@pytest.mark.virtual_time
async def test_a_worker_that_is_killed_while_its_successor_starts_is_replaced_all_the_same(replaced):
    child, keeper, successors = replaced
    child.asked.set()
    await advance(1.0)
    child.end(-9)
    await advance(3.5)
    assert (keeper.child, len(child.lives)) == (successors.made[0].child, 1)


@pytest.mark.virtual_time
async def test_a_successor_that_crashes_later_is_restarted_where_it_is(replaced):
    child, keeper, successors = replaced
    child.asked.set()
    await advance(4.5)
    successors.made[0].child.end(1)
    await advance(1.0)
    assert keeper.child is successors.made[0].child
    assert (len(keeper.child.lives), len(successors.made)) == (2, 1)


@pytest.mark.virtual_time
@pytest.mark.parametrize(("after_s", "left_s"), [(1.0, 5.0), (4.5, 5.0)])
async def test_a_stop_of_the_suite_ends_both_while_a_worker_is_being_replaced(
    replaced, keep, after_s, left_s
):
    child, keeper, successors = replaced
    child.asked.set()
    await advance(after_s)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if task.get_coro().__qualname__ == "Keeper.run":
            task.cancel()
    stopping = asyncio.ensure_future(keeper.stop(10.0))
    await advance(left_s + 0.1)
    assert await stopping
    assert not any(each.running for each in (child, successors.made[0].child))


@pytest.mark.virtual_time
async def test_both_are_killed_when_the_suite_does_not_wait(replaced):
    child, keeper, successors = replaced
    child.asked.set()
    await advance(1.0)
    keeper.kill()
    assert not any(each.running for each in (child, successors.made[0].child))


@pytest.mark.virtual_time
async def test_a_former_worker_that_does_not_end_is_killed(replaced, screen):
    child, _, _ = replaced
    child._drains_s = 1_000.0
    child.asked.set()
    await advance(4.5 + 30.0)
    assert not child.running
    assert "the former one has ended (killed by SIGKILL)" in screen.getvalue()
