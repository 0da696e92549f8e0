"""On which ports successors run, and where they are found."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from services.cli.run import successors as module
from services.cli.run.plan import ChildPlan
from services.cli.run.ports import take_ports
from services.cli.run.successors import Instance, Successors
from services.common.rpc.health import add_health
from tests.support.endpoints import ENDPOINTS, bind, build_server
from tests.support.waiting import until


class NoChild:
    """A child without a process."""

    pid = None


@pytest.fixture
def ports():
    """Two ports that are free."""
    return take_ports(ENDPOINTS, "127.0.0.1", 0, 2, "")


@pytest.fixture
def successors(tmp_path, ports):
    """Of a decode worker; the gateway's address is the argument."""

    def make(gateway="127.0.0.1:1", **options):
        words = ("decode", "--port", str(ports[0]), "--metrics-port", str(ports[1]), "--model", "m")
        plan = ChildPlan("decode", words, f"127.0.0.1:{ports[0]}")
        return Successors(
            plan, instance, tmp_path / "decode.pool", ENDPOINTS, gateway, asyncio.Lock(), **options
        )

    return make


def instance(plan):
    made = Instance(NoChild(), plan.grpc_address, None)
    object.__setattr__(made, "plan", plan)
    return made


def test_a_successor_gets_the_ports_of_the_plan_unless_they_are_in_use(successors, ports):
    assert list(successors().make().plan.ports) == ports
    with ExitStack() as held:
        take_ports(ENDPOINTS, "127.0.0.1", ports[0], 1, "", held)
        plan = successors().make().plan
    assert plan.ports[0] not in ports
    assert plan.ports[1] == ports[1]
    assert plan.grpc_address == f"127.0.0.1:{plan.ports[0]}"
    assert plan.arguments[-2:] == ("--model", "m")


def test_the_file_lists_exactly_what_is_published(successors, tmp_path):
    some = successors()
    first, second = (Instance(NoChild(), f"127.0.0.1:{port}", None) for port in (5, 6))
    some.publish(first, second)
    assert (tmp_path / "decode.pool").read_text() == "127.0.0.1:5\n127.0.0.1:6\n"
    some.publish(second)
    assert (tmp_path / "decode.pool").read_text() == "127.0.0.1:6\n"
    assert [path.name for path in tmp_path.iterdir()] == ["decode.pool"]


async def test_there_is_no_successor_beside_a_worker_that_keeps_its_ports(successors):
    assert await successors().why_not(Instance(NoChild(), "", None)) is None
    assert await successors(keep_ports=True).why_not(Instance(NoChild(), "", None)) == "--keep-ports"


async def test_a_successor_is_used_when_the_gateway_says_so(successors, monkeypatch):
    monkeypatch.setattr(module, "_OTHERS_S", 0.0)
    server = build_server()
    health = await add_health(server, [])
    await health.set_serving()
    some = successors(f"127.0.0.1:{bind(server, '127.0.0.1', 0)}")
    await server.start()
    waiting = asyncio.ensure_future(some.until_used(Instance(NoChild(), "127.0.0.1:6", None)))
    await health.say("127.0.0.1:5", serving=True)
    await health.say("127.0.0.1:6", serving=False)
    await asyncio.sleep(0.3)  # it asks ten times a second
    assert not waiting.done()
    await health.say("127.0.0.1:6", serving=True)
    await until(waiting.done, 30)
    await server.stop(None)


async def test_a_gateway_that_is_away_is_not_waited_for_forever(successors, monkeypatch):
    monkeypatch.setattr(module, "_USED_S", 0.05)
    async with asyncio.timeout(30):
        await successors().until_used(Instance(NoChild(), "127.0.0.1:6", None))
