"""Finding workers by name."""

import asyncio
import contextlib
import socket

from structlog.testing import capture_logs

from services.common.rpc.name_resolver import NameResolver
from services.common.rpc.pool_address import parse_pool
from services.gateway.workers.discovery import Discovery
from services.gateway.workers.pool import DECODE, PREFILL
from tests.support.waiting import until


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

    async def asked_again(self, host):
        """Waits until what is recorded now has been told."""
        before = self.asked.count(host)
        await until(lambda: self.asked.count(host) >= before + 2)


def discovery(resolve, found, interval_s=60.0, **pools):
    roles = {"decode": DECODE, "prefill": PREFILL}
    parsed = {roles[name]: parse_pool(text) for name, text in pools.items()}
    return Discovery(parsed, lambda role, addresses: found.__setitem__(role, addresses), interval_s, resolve)


@contextlib.asynccontextmanager
async def running(looking):
    """Has `looking` run; begins when every name has been looked up once."""
    task = asyncio.create_task(looking.run())
    try:
        await looking.first_look()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_every_replica_of_a_name_is_found_under_its_own_address():
    found = {}
    names = Names(d=["10.0.0.2", "10.0.0.1"], p=["10.0.0.9"])
    async with running(discovery(names.resolve, found, decode="d:5,10.1.1.1:6", prefill="p:7")):
        assert found == {DECODE: ["10.0.0.1:5", "10.0.0.2:5", "10.1.1.1:6"], PREFILL: ["10.0.0.9:7"]}


async def test_replicas_that_come_and_go_are_noticed():
    found = {}
    names = Names(d=["10.0.0.1"])
    async with running(discovery(names.resolve, found, 0.001, decode="d:5")):
        names.records["d"] = ["10.0.0.2", "10.0.0.3"]
        await names.asked_again("d")
        assert found[DECODE] == ["10.0.0.2:5", "10.0.0.3:5"]


async def test_a_failing_name_server_takes_no_worker_away_and_is_reported_once():
    found = {}
    names = Names(d=["10.0.0.1"])
    with capture_logs() as logs:
        async with running(discovery(names.resolve, found, 0.001, decode="d:5")):
            names.records["d"] = socket.gaierror(socket.EAI_AGAIN, "try again")
            await names.asked_again("d")
            await names.asked_again("d")
            assert found[DECODE] == ["10.0.0.1:5"]
    assert [(line["event"], line["name"]) for line in logs] == [("name not resolved", "d")]


async def test_a_name_that_never_resolved_gives_nothing_until_it_does():
    found = {}
    names = Names(d=socket.gaierror(socket.EAI_NONAME, "unknown"))
    async with running(discovery(names.resolve, found, 0.001, decode="d:5")):
        assert found[DECODE] == []
        names.records["d"] = ["10.0.0.1"]
        await names.asked_again("d")
        assert found[DECODE] == ["10.0.0.1:5"]


async def test_addresses_are_not_looked_up():
    names, found = Names(), {}
    async with running(discovery(names.resolve, found, decode="127.0.0.1:5,[::1]:6")):
        assert names.asked == []
        assert found[DECODE] == ["127.0.0.1:5", "[::1]:6"]


async def test_one_worker_in_two_entries_is_found_once():
    found = {}
    async with running(discovery(Names(d=["10.0.0.1"]).resolve, found, decode="d:5,10.0.0.1:5")):
        assert found[DECODE] == ["10.0.0.1:5"]


async def test_a_worker_with_an_address_of_each_kind_is_found_once():
    found = {}
    names = Names(both=["::1", "127.0.0.1"], new=["fd00::2", "fd00::1"])
    async with running(discovery(names.resolve, found, decode="both:5", prefill="new:6")):
        assert found == {DECODE: ["127.0.0.1:5"], PREFILL: ["[fd00::1]:6", "[fd00::2]:6"]}


class SlowName(Names):
    """`slow` is never answered."""

    async def resolve(self, host, port):
        found = await super().resolve(host, port)
        if host == "slow":
            await asyncio.Event().wait()
        return found


async def test_a_slow_name_holds_up_neither_the_start_nor_other_workers(monkeypatch):
    monkeypatch.setattr("services.gateway.workers.discovery._FIRST_LOOK_S", 0.05)
    found = {}
    names = SlowName(slow=[], d=["10.0.0.1"], p=["10.0.0.1"])
    with capture_logs() as logs:
        async with asyncio.timeout(5):
            looking = discovery(names.resolve, found, decode="slow:5,d:6,10.0.0.9:7", prefill="p:8")
            async with running(looking):
                assert sorted(found[DECODE]) == ["10.0.0.1:6", "10.0.0.9:7"]
                assert found[PREFILL] == ["10.0.0.1:8"]
    assert [line["names"] for line in logs] == ["slow"]


async def test_while_a_name_is_slow_the_others_are_looked_up_again_and_again(monkeypatch):
    monkeypatch.setattr("services.gateway.workers.discovery._FIRST_LOOK_S", 0.05)
    found = {}
    names = SlowName(slow=[], d=["10.0.0.1"], p=["10.0.0.8"])
    looking = discovery(names.resolve, found, 0.001, decode="slow:5,d:6", prefill="p:8")
    async with running(looking):
        names.records.update(d=["10.0.0.2"], p=["10.0.0.9"])
        await names.asked_again("d")
        await names.asked_again("p")
        assert found == {DECODE: ["10.0.0.2:6"], PREFILL: ["10.0.0.9:8"]}
        assert names.asked.count("slow") == 1


async def test_a_name_that_is_none_is_reported_and_harms_nobody():
    found = {}
    with capture_logs() as logs:
        async with running(discovery(NameResolver(1).addresses, found, decode="d..svc:5,10.0.0.9:7")):
            assert found[DECODE] == ["10.0.0.9:7"]
    assert [line["name"] for line in logs] == ["d..svc"]


async def test_workers_in_a_file_are_found_soon_however_seldom_names_are_resolved(tmp_path):
    found = {}
    path = tmp_path / "decode.pool"
    path.write_text("127.0.0.1:5\n")
    async with running(discovery(Names().resolve, found, decode=f"file:{path},10.1.1.1:6")):
        assert found[DECODE] == ["127.0.0.1:5", "10.1.1.1:6"]
        path.write_text("127.0.0.1:5\n127.0.0.1:7\n")
        await until(lambda: found[DECODE] == ["127.0.0.1:5", "127.0.0.1:7", "10.1.1.1:6"], 30)


async def test_a_file_that_is_away_or_broken_takes_no_worker_away_and_is_reported_once(tmp_path, monkeypatch):
    monkeypatch.setattr("services.gateway.workers.discovery._MOST_BETWEEN_READS_S", 0.001)
    found = {}
    path = tmp_path / "decode.pool"
    path.write_text("127.0.0.1:5\n")
    with capture_logs() as logs:
        async with running(discovery(Names().resolve, found, decode=f"file:{path}")):
            path.unlink()
            await until(lambda: logs)
            path.write_text("nonsense")
            await asyncio.sleep(0.05)  # several reads of it
            assert found[DECODE] == ["127.0.0.1:5"]
            path.write_text("127.0.0.1:6")
            await until(lambda: found[DECODE] == ["127.0.0.1:6"])
    assert [(line["event"], line["name"]) for line in logs] == [("name not resolved", f"file:{path}")]
