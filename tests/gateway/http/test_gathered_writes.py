"""What is written in one turn of the loop goes out together, and nothing is lost or comes out of order."""

import asyncio

from services.gateway.http.gathered_writes import GatheredWrites


class Transport:
    """Notes what it is asked."""

    def __init__(self):
        self.calls = []
        self.closing = False

    def write(self, data):
        assert not self.closing
        self.calls.append(data)

    def close(self):
        self.closing = True
        self.calls.append("close")

    def is_closing(self):
        return self.closing

    def get_extra_info(self, name):
        return name


async def test_the_writes_of_a_turn_are_one_at_its_end():
    real = Transport()
    gathered = GatheredWrites(real, asyncio.get_running_loop())
    gathered.write(b"a")
    gathered.write(b"b")
    assert real.calls == []
    await asyncio.sleep(0)
    gathered.write(b"c")
    await asyncio.sleep(0)
    assert real.calls == [b"ab", b"c"]
    assert gathered.get_extra_info("peername") == "peername"


async def test_what_was_written_before_a_close_goes_out_before_it():
    real = Transport()
    gathered = GatheredWrites(real, asyncio.get_running_loop())
    gathered.write(b"last words")
    gathered.close()
    await asyncio.sleep(0)
    assert real.calls == [b"last words", "close"]


async def test_a_connection_lost_within_the_turn_is_not_written_to():
    real = Transport()
    gathered = GatheredWrites(real, asyncio.get_running_loop())
    gathered.write(b"a")
    real.closing = True
    await asyncio.sleep(0)
    assert real.calls == []


async def test_much_goes_out_at_once_so_that_the_transport_can_say_stop():
    real = Transport()
    gathered = GatheredWrites(real, asyncio.get_running_loop())
    for _ in range(5):
        gathered.write(b"a" * 30_000)
    assert [len(data) for data in real.calls] == [90_000]
    await asyncio.sleep(0)
    assert [len(data) for data in real.calls] == [90_000, 60_000]
