"""Tasks of tenants take turns."""

from __future__ import annotations

import asyncio

from services.common.fairness.turns import FairSemaphore
from tests.support.waiting import let_tasks_run


class Room:
    """Tasks that stay inside until they are told to leave."""

    def __init__(self, width):
        self._semaphore = FairSemaphore(width)
        self._leave = {}
        self.inside = []
        self.came = []

    def come(self, name, tenant, weight=1, cost=1.0):
        return asyncio.create_task(self._stay(name, tenant, weight, cost))

    async def _stay(self, name, tenant, weight, cost):
        async with self._semaphore.turn(tenant, weight, cost):
            self.came.append(name)
            self.inside.append(name)
            self._leave[name] = asyncio.Event()
            try:
                await self._leave[name].wait()
            finally:
                self.inside.remove(name)

    def leave(self, name):
        self._leave[name].set()

    async def empty(self):
        while self.inside:
            self.leave(self.inside[0])
            await let_tasks_run()


async def test_a_crowd_of_one_tenant_delays_another_by_one_turn_and_comes_in_its_order():
    room = Room(1)
    for number in range(4):
        room.come(f"crowd {number}", 1)
    await let_tasks_run()
    room.come("other", 2)
    await let_tasks_run()
    await room.empty()
    assert room.came == ["crowd 0", "other", "crowd 1", "crowd 2", "crowd 3"]


async def test_turns_are_shared_by_what_they_cost_and_by_weight():
    room = Room(1)
    room.come("first", 3)
    await let_tasks_run()
    for number in range(4):
        room.come(f"dear {number}", 1, cost=20.0)
        room.come(f"light {number}", 2, weight=2, cost=20.0)
    await let_tasks_run()
    await room.empty()
    assert [name.split()[0] for name in room.came[1:7]].count("light") == 4


async def test_no_more_than_its_width_are_inside():
    room = Room(2)
    for number in range(5):
        room.come(number, 0)
    await let_tasks_run()
    assert room.inside == [0, 1]
    room.leave(0)
    await let_tasks_run()
    assert room.inside == [1, 2]
    await room.empty()
    assert room.came == list(range(5))


async def test_those_that_went_away_take_nobodys_turn_even_if_it_came_at_the_same_moment():
    room = Room(1)
    room.come("first", 0)
    gone, late, last = (room.come(name, 0) for name in ("gone", "late", "last"))
    await let_tasks_run()
    gone.cancel()
    await let_tasks_run()
    room.leave("first")
    while room.inside:
        await asyncio.sleep(0)
    late.cancel()  # it has its turn, and has not run yet
    await let_tasks_run()
    assert room.inside == ["last"]
    assert (gone.cancelled(), late.cancelled(), last.done()) == (True, True, False)
    await room.empty()
