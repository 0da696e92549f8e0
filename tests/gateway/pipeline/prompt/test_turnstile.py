import asyncio

from services.gateway.pipeline.prompt.turnstile import Turnstile
from tests.support.waiting import let_tasks_run


async def test_a_crowd_comes_in_a_few_at_a_time_and_in_order():
    turnstile, inside, rounds = Turnstile(width=3), [], []

    async def come(number):
        await turnstile.enter()
        inside.append(number)

    tasks = [asyncio.create_task(come(number)) for number in range(20)]
    while len(inside) < 20:
        before = len(inside)
        await let_tasks_run(1)
        rounds.append(len(inside) - before)
    await asyncio.gather(*tasks)
    assert inside == list(range(20))
    assert max(rounds) <= 3


async def test_whoever_comes_alone_does_not_wait():
    turnstile = Turnstile(width=1)
    for _ in range(5):
        entering = turnstile.enter()
        try:
            entering.send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("it waited")
        await let_tasks_run()


async def test_those_that_went_away_while_they_waited_take_nobodys_turn():
    turnstile = Turnstile(width=1)
    await turnstile.enter()
    waiting = [asyncio.create_task(turnstile.enter()) for _ in range(10)]
    await let_tasks_run(1)
    for task in waiting[:-1]:
        task.cancel()
    await asyncio.wait_for(waiting[-1], 5)


async def test_a_crowd_of_one_tenant_delays_another_by_one_turn():
    turnstile, inside = Turnstile(width=1), []

    async def come(name, tenant):
        await turnstile.enter(tenant)
        inside.append(name)

    crowd = [asyncio.create_task(come("crowd", 1)) for _ in range(50)]
    await let_tasks_run(3)
    before = len(inside)
    other = asyncio.create_task(come("other", 2))
    await other
    assert inside.index("other") <= before + 2
    await asyncio.gather(*crowd)
