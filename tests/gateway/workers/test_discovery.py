"""Finding workers by name."""

import asyncio
import socket

import pytest
from structlog.testing import capture_logs

from services.gateway.workers.address import PoolAddress, parse_pool
from services.gateway.workers.discovery import Discovery, resolve_dns
from services.gateway.workers.pool import DECODE, PREFILL


class Names:
    """A name server whose records the test sets; an OSError instead of a record is raised."""

    def __init__(self, **records):
        self.records = records
        self.asked = 0

    async def __call__(self, entry):
        self.asked += 1
        found = self.records[entry.host]
        if isinstance(found, OSError):
            raise found
        return found


def discovery(names, found, interval_s=60.0, **pools):
    roles = {"decode": DECODE, "prefill": PREFILL}
    parsed = {roles[name]: parse_pool(text) for name, text in pools.items()}
    return Discovery(parsed, lambda role, addresses: found.__setitem__(role, addresses), interval_s, names)


async def test_every_replica_of_a_name_is_found_under_its_own_address():
    found = {}
    names = Names(d=["10.0.0.2", "10.0.0.1"], p=["10.0.0.9"])
    await discovery(names, found, decode="d:5,10.1.1.1:6", prefill="p:7").look()
    assert found == {DECODE: ["10.0.0.1:5", "10.0.0.2:5", "10.1.1.1:6"], PREFILL: ["10.0.0.9:7"]}


async def test_replicas_that_come_and_go_are_noticed():
    found = {}
    names = Names(d=["10.0.0.1"])
    watching = asyncio.create_task(discovery(names, found, 0.01, decode="d:5").run())
    await asyncio.sleep(0.05)
    names.records["d"] = ["10.0.0.2", "10.0.0.3"]
    await asyncio.sleep(0.05)
    watching.cancel()
    assert found[DECODE] == ["10.0.0.2:5", "10.0.0.3:5"]


async def test_a_failing_name_server_takes_no_worker_away_and_is_reported_once():
    found = {}
    names = Names(d=["10.0.0.1"])
    looking = discovery(names, found, decode="d:5")
    await looking.look()
    names.records["d"] = socket.gaierror(socket.EAI_AGAIN, "try again")
    with capture_logs() as logs:
        await looking.look()
        await looking.look()
    assert found[DECODE] == ["10.0.0.1:5"]
    assert [(line["event"], line["name"]) for line in logs] == [("name not resolved", "d")]


async def test_a_name_that_never_resolved_gives_nothing_until_it_does():
    found = {}
    names = Names(d=socket.gaierror(socket.EAI_NONAME, "unknown"))
    looking = discovery(names, found, decode="d:5")
    await looking.look()
    assert found[DECODE] == []
    names.records["d"] = ["10.0.0.1"]
    await looking.look()
    assert found[DECODE] == ["10.0.0.1:5"]


async def test_addresses_are_not_looked_up():
    names = Names()
    await discovery(names, {}, decode="127.0.0.1:5,[::1]:6").look()
    assert names.asked == 0


async def test_one_worker_in_two_entries_is_found_once():
    found = {}
    await discovery(Names(d=["10.0.0.1"]), found, decode="d:5,10.0.0.1:5").look()
    assert found[DECODE] == ["10.0.0.1:5"]


async def test_a_slow_name_holds_up_neither_the_start_nor_other_workers(monkeypatch):
    monkeypatch.setattr("services.gateway.workers.discovery._FIRST_LOOK_S", 0.05)
    found = {}

    async def slow(entry):
        await asyncio.sleep(60 if entry.host == "slow" else 0)
        return ["10.0.0.1"]

    async with asyncio.timeout(1):
        await discovery(slow, found, decode="slow:5,d:6,10.0.0.9:7", prefill="p:8").first_look()
    assert sorted(found[DECODE]) == ["10.0.0.1:6", "10.0.0.9:7"]
    assert found[PREFILL] == ["10.0.0.1:8"]


async def test_a_name_that_is_none_is_reported_and_harms_nobody():
    found = {}
    looking = Discovery({DECODE: parse_pool("d..svc:5,10.0.0.9:7")}, found.__setitem__, 60.0)
    with capture_logs() as logs:
        await looking.look()
    assert found[DECODE] == ["10.0.0.9:7"]
    assert [line["name"] for line in logs] == ["d..svc"]


async def test_localhost_is_one_address_whatever_families_it_has():
    assert await resolve_dns(PoolAddress("localhost", 5)) in (["127.0.0.1"], ["::1"])


async def test_a_name_that_does_not_exist_is_an_os_error():
    with pytest.raises(OSError):  # noqa: PT011 - its texts differ from system to system
        await resolve_dns(PoolAddress("no-such-worker.invalid", 5))
