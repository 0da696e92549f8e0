"""Tasks end exactly once, however early they are stopped."""

from __future__ import annotations

import asyncio

import pytest

from services.engine.serving.named_tasks import NamedTasks
from tests.support.waiting import let_tasks_run


class Bench:
    """Tasks that wait for an event, and the ends that were reported."""

    def __init__(self) -> None:
        self.ends: list[str] = []
        self.go_on = asyncio.Event()
        self.tasks = NamedTasks(self.run, self.ends.append)

    async def run(self, name: str, order: str) -> None:
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            order = "stopped"
        self.ends.append(f"{name} {order}")


@pytest.mark.parametrize("before", [0, 1, 2, 3])
async def test_a_stopped_task_ends_once_even_if_it_has_not_begun(before):
    bench = Bench()
    bench.tasks.start("a", "done")
    await let_tasks_run(before)
    bench.tasks.stop("a")
    bench.tasks.stop("a")
    await let_tasks_run(5)
    assert bench.ends in (["a"], ["a stopped"])
    bench.tasks.stop("a")
    await let_tasks_run(5)
    assert len(bench.ends) == 1


async def test_orders_of_another_thread_are_carried_out():
    bench = Bench()
    await asyncio.to_thread(bench.tasks.start, "a", "done")
    await asyncio.to_thread(bench.tasks.start, "b", "done")
    await let_tasks_run(3)
    await asyncio.to_thread(bench.tasks.stop, "b")
    await let_tasks_run(3)
    bench.go_on.set()
    await let_tasks_run(3)
    assert bench.ends == ["b stopped", "a done"]


async def test_a_name_may_be_started_again_as_soon_as_its_end_is_heard():
    bench = Bench()
    bench.go_on.set()

    async def run(name: str, order: str) -> None:
        await Bench.run(bench, name, order)
        if order == "first":
            bench.go_on.clear()
            bench.tasks.start(name, "second")
            await let_tasks_run(1)  # the next one starts before this one's end is noticed

    bench.tasks = NamedTasks(run, bench.ends.append)
    bench.tasks.start("a", "first")
    await let_tasks_run(8)
    bench.tasks.stop("a")
    await let_tasks_run(5)
    assert bench.ends == ["a first", "a stopped"]


async def test_what_is_closed_later_runs_to_its_end():
    bench = Bench()
    closed: list[str] = []

    async def close() -> None:
        await let_tasks_run(1)
        closed.append("closed")

    bench.tasks.close_later(close())
    await let_tasks_run(4)
    assert closed == ["closed"]
