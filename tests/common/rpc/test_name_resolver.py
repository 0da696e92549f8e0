"""Names looked up on threads that nothing else uses."""

import asyncio
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.common.rpc.name_resolver import NameResolver
from tests.support.waiting import let_tasks_run, until


class SlowNames:
    """Answers for a name when the test opens its gate; every other name at once."""

    def __init__(self, *slow):
        self.gates = {name: threading.Event() for name in slow}
        self.asked = []

    def look(self, host, port):
        self.asked.append(host)
        if host in self.gates:
            assert self.gates[host].wait(30)
        return ["10.0.0.1"]

    def open(self):
        for gate in self.gates.values():
            gate.set()


@pytest.fixture
def slow():
    names = SlowNames("slow", "slower")
    yield names
    names.open()


async def test_slow_names_leave_the_loop_s_own_threads_free(slow):
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    resolver = NameResolver(2, slow.look)
    waiting = [asyncio.create_task(resolver.addresses(name, 5)) for name in ("slow", "slower")]
    async with asyncio.timeout(10):
        assert await asyncio.to_thread(lambda: "free") == "free"
    slow.open()
    assert await asyncio.gather(*waiting) == [["10.0.0.1"]] * 2


async def test_names_beyond_the_threads_wait_in_order(slow):
    resolver = NameResolver(1, slow.look)
    waiting = [asyncio.create_task(resolver.addresses(name, 5)) for name in ("slow", "first", "second")]
    await until(lambda: slow.asked)
    await let_tasks_run()
    assert slow.asked == ["slow"]
    slow.open()
    await asyncio.gather(*waiting)
    assert slow.asked == ["slow", "first", "second"]


async def test_a_lookup_nobody_waits_for_keeps_its_place_until_it_ends(slow):
    resolver = NameResolver(1, slow.look)
    given_up = asyncio.create_task(resolver.addresses("slow", 5))
    await until(lambda: slow.asked)
    given_up.cancel()
    after = asyncio.create_task(resolver.addresses("after", 5))
    await let_tasks_run()
    assert slow.asked == ["slow"]
    slow.open()
    assert await after == ["10.0.0.1"]


async def test_what_waits_and_is_given_up_is_never_looked_up(slow):
    resolver = NameResolver(1, slow.look)
    first, given_up = (asyncio.create_task(resolver.addresses(name, 5)) for name in ("slow", "unwanted"))
    await until(lambda: slow.asked)
    given_up.cancel()
    slow.open()
    await first
    await resolver.addresses("after", 5)
    assert slow.asked == ["slow", "after"]


async def test_a_name_that_does_not_exist_is_an_os_error():
    with pytest.raises(OSError):  # noqa: PT011 - its texts differ from system to system
        await NameResolver(1).addresses("no-such-worker.invalid", 5)


async def test_a_name_that_is_none_is_a_unicode_error_and_frees_its_place():
    resolver = NameResolver(1)
    for _ in range(2):
        with pytest.raises(UnicodeError):
            await resolver.addresses("d..svc", 5)
    assert await resolver.addresses("127.0.0.1", 5) == ["127.0.0.1"]


async def test_every_address_comes_once():
    found = await NameResolver(1).addresses("localhost", 5)
    assert len(found) == len(set(found))
    assert set(found) <= {"127.0.0.1", "::1"}


def test_a_lookup_that_outlives_its_loop_harms_nobody(slow):
    async def give_up():
        lookup = asyncio.create_task(NameResolver(1, slow.look).addresses("slow", 5))
        await until(lambda: slow.asked)
        lookup.cancel()

    asyncio.run(give_up())
    lingering = [thread for thread in threading.enumerate() if thread.name == "resolve slow"]
    assert [thread.daemon for thread in lingering] == [True]
    slow.open()
    lingering[0].join(10)
    assert not lingering[0].is_alive()


async def test_the_system_s_failures_come_as_they_are():
    def look(host, port):
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    with pytest.raises(socket.gaierror, match="try again"):
        await NameResolver(1, look).addresses("d", 5)
