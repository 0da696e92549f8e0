"""Operators change log levels while services run."""

from __future__ import annotations

import io
import json
import logging

import grpc
import pytest
import structlog

from perigee.v1 import admin_pb2, admin_pb2_grpc
from services.common.logs import configure_logs
from services.gateway.rpc.log_levels import LogLevels
from services.gateway.workers.pool import WorkerPool
from tests.gateway.suite import wait_until
from tests.support.endpoints import ENDPOINTS


@pytest.fixture
def out():
    """The log of this process, in which the gateway runs."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()
    configure_logs("INFO", stream=stream)
    yield stream
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


@pytest.fixture
def admin(out, suite):
    return admin_pb2_grpc.AdminServiceStub(suite.operator)


def requests(out):
    return [line for line in map(json.loads, out.getvalue().splitlines()) if line["event"] == "request"]


async def set_level(admin, level, address=""):
    answer = await admin.SetLogLevel(admin_pb2.SetLogLevelsRequest(level=level, address=address))
    return {each.address: each.error for each in answer.services}


async def test_the_gateway_and_every_worker_change_and_the_next_request_is_logged_accordingly(
    out, suite, admin
):
    addresses = [server.address for server in suite.workers.values()]
    assert await set_level(admin, "warning") == dict.fromkeys(["gateway", *addresses], "")
    assert [server.worker.levels for server in suite.workers.values()] == [["WARNING"]] * len(addresses)
    await suite.chat()
    assert requests(out) == []
    await set_level(admin, "INFO")
    await suite.chat()
    await wait_until(lambda: len(requests(out)) == 1)


async def test_one_service_changes_alone(out, suite, admin):
    decode = suite.workers["decode0"]
    assert await set_level(admin, "ERROR", decode.address) == {decode.address: ""}
    assert decode.worker.levels == ["ERROR"]
    assert suite.workers["vision"].worker.levels == []
    await suite.chat()
    await wait_until(lambda: len(requests(out)) == 1)
    assert await set_level(admin, "ERROR", "gateway") == {"gateway": ""}
    await suite.chat()
    assert len(requests(out)) == 1


async def test_a_worker_that_fails_is_named_and_the_others_change(suite, admin):
    suite.workers["vision"].worker.level_fails = "broken"
    answers = await set_level(admin, "DEBUG")
    assert "broken" in answers.pop(suite.workers["vision"].address)
    assert set(answers.values()) == {""}


@pytest.mark.parametrize(
    ("level", "address", "code", "text"),
    [
        ("LOUD", "", grpc.StatusCode.INVALID_ARGUMENT, "DEBUG, INFO, WARNING, ERROR"),
        ("", "", grpc.StatusCode.INVALID_ARGUMENT, "unknown log level"),
        ("INFO", "nobody:1", grpc.StatusCode.NOT_FOUND, "known: gateway, 127.0.0.1:"),
    ],
)
async def test_a_wrong_level_or_address_changes_nothing_and_says_what_there_is(
    suite, admin, level, address, code, text
):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await set_level(admin, level, address)
    assert caught.value.code() is code
    assert text in caught.value.details()
    assert suite.workers["decode0"].worker.levels == []


async def test_all_processes_of_a_gateway_take_the_level_that_one_was_told(out, tmp_path):
    changes = []
    pool = WorkerPool("", "", "", ENDPOINTS)
    told, other = (
        LogLevels(pool, tmp_path / "log_level", lambda name=name: changes.append(name))
        for name in ("told", "other")
    )
    other.follow()
    assert changes == []
    await told.set("ERROR", "gateway")
    other.follow()
    other.follow()
    assert changes == ["told", "other"]
    structlog.get_logger().warning("quiet")
    assert out.getvalue() == ""
