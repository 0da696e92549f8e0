"""Whom a worker may connect to."""

from __future__ import annotations

import asyncio

import pytest

from services.common.rpc.pool_address import parse_pool
from services.engine.peers.pool_members import PoolMembers
from tests.support.manual_clock import ManualClock


class Names:
    """A name server whose records the test sets; an OSError instead of a record is raised."""

    def __init__(self, **records):
        self.records = records
        self.asked = []

    async def resolve(self, host, port):
        self.asked.append(host)
        found = self.records[host]
        if isinstance(found, OSError):
            raise found
        return found


@pytest.fixture
def clock():
    return ManualClock()


def members(names, clock, text="prefill:7,10.1.1.1:6,[fd00::1]:6"):
    return PoolMembers(parse_pool(text), names.resolve, clock)


@pytest.mark.parametrize(
    "address", ["10.1.1.1:6", "[fd00::1]:6", "[fd00:0:0::1]:6", "prefill:7", "10.0.0.2:7"]
)
async def test_entries_and_what_their_names_resolve_to_are_members(clock, address):
    assert await members(Names(prefill=["10.0.0.2", "10.0.0.1"]), clock).contains(address)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.3:7",
        "10.0.0.2:6",
        "10.1.1.1:7",
        "prefill:6",
        "attacker.example:7",
        "167837698:7",  # 10.1.0.2 as one number
        "0x0a.1.1.1:6",
        "[::ffff:10.1.1.1]:6",
        "10.1.1.1:6@attacker.example:6",
        "unix:/run/other.sock",
        "dns:///10.1.1.1:6",
        "10.1.1.1",
        "",
    ],
)
async def test_no_other_address_is_a_member_however_it_is_spelt(clock, address):
    assert not await members(Names(prefill=["10.0.0.2"]), clock).contains(address)


async def test_an_empty_pool_has_no_members(clock):
    pool = members(Names(), clock, "")
    assert not await pool.contains("127.0.0.1:50052")
    assert str(pool) == "empty"


async def test_a_new_replica_is_a_member_as_soon_as_its_name_lists_it_but_names_are_asked_once_a_second(
    clock,
):
    names = Names(prefill=["10.0.0.1"])
    pool = members(names, clock)
    assert await pool.contains("10.0.0.1:7")
    for _ in range(50):
        assert not await pool.contains("10.0.0.2:7")
    assert len(names.asked) == 1
    names.records["prefill"] = ["10.0.0.1", "10.0.0.2"]
    clock.now += 1.0
    assert await pool.contains("10.0.0.2:7")
    assert len(names.asked) == 2


async def test_a_replica_that_left_its_name_is_no_member_half_a_minute_later(clock):
    names = Names(prefill=["10.0.0.1"])
    pool = members(names, clock)
    assert await pool.contains("10.0.0.1:7")
    names.records["prefill"] = ["10.0.0.2"]
    clock.now += 30.0
    assert not await pool.contains("10.0.0.1:7")


async def test_a_name_that_does_not_resolve_keeps_the_addresses_it_had(clock):
    names = Names(prefill=["10.0.0.1"])
    pool = members(names, clock)
    assert await pool.contains("10.0.0.1:7")
    names.records["prefill"] = OSError("no such name")
    clock.now += 60.0
    assert await pool.contains("10.0.0.1:7")


async def test_callers_at_the_same_time_share_a_lookup(clock):
    names = Names(prefill=["10.0.0.1"])
    pool = members(names, clock)
    assert all(await asyncio.gather(*(pool.contains("10.0.0.1:7") for _ in range(9))))
    assert len(names.asked) == 1


async def test_a_worker_that_a_file_lists_is_a_member_once_it_is_listed(clock, tmp_path):
    path = tmp_path / "prefill.pool"
    path.write_text("10.0.0.1:7\n")
    pool = members(Names(), clock, f"file:{path}")
    assert await pool.contains("10.0.0.1:7")
    assert not await pool.contains("10.0.0.1:8")
    path.write_text("10.0.0.1:8\n")
    clock.now += 1.0
    assert await pool.contains("10.0.0.1:8")
    assert not await pool.contains("10.0.0.1:7")
