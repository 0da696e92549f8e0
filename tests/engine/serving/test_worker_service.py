"""What every worker answers."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging

import grpc
import pytest
import structlog
import torch

from perigee.v1 import worker_pb2, worker_pb2_grpc
from services.common.errors import (
    AlreadyPaired,
    Cancelled,
    Incompatible,
    InvalidRequest,
    PermissionDenied,
    Unavailable,
)
from services.common.logs import configure_logs
from services.common.rpc.status import from_rpc_error
from services.engine.kv_cache.kv_pages import kv_layout
from services.engine.kv_transfer.agents.memory_agent import MemoryFabric
from tests.support.certificates import Deployment
from tests.support.endpoints import open_channel
from tests.support.fake_runner import HIDDEN, fake_pages
from tests.support.owner import MODEL, Owner, RecordingBackend, transfer_thread
from tests.support.waiting import until


@pytest.fixture
async def owner():
    pages = fake_pages(4)
    thread = transfer_thread("owner", MemoryFabric(), pages, torch.zeros(2, 64, HIDDEN))
    owner = Owner(RecordingBackend("owner-1", thread, pages))
    await owner.start()
    yield owner
    await owner.stop()
    thread.close()


@pytest.fixture
async def stub(owner):
    async with open_channel(owner.address) as channel:
        yield worker_pb2_grpc.WorkerServiceStub(channel)


def hello(reader: str = "reader-1", **fields) -> worker_pb2.HandshakeRequest:
    defaults = {"incarnation": reader, "model": MODEL, "layout": kv_layout(fake_pages(9))}
    return worker_pb2.HandshakeRequest(hello=worker_pb2.ReaderHello(**(defaults | fields)))


def settled(token: bytes, *keys: int) -> worker_pb2.HandshakeRequest:
    return worker_pb2.HandshakeRequest(settled=worker_pb2.SettledLeases(lease_keys=keys, reader_token=token))


async def paired(stub, **fields):
    """An open handshake of reader-1, and the token of its offer."""
    call = stub.Handshake()
    await call.write(hello(**fields))
    return call, (await call.read()).offer.reader_token


async def refusal(call) -> Exception:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    return from_rpc_error(caught.value)


async def test_identity_flush_and_drain_are_the_hosts(owner, stub):
    assert (await stub.GetInfo(worker_pb2.GetInfoRequest())).incarnation == "owner-1"
    assert (await stub.Flush(worker_pb2.FlushRequest())).pages == 3
    assert (await stub.Drain(worker_pb2.DrainRequest())).outstanding == 2
    await stub.Undrain(worker_pb2.UndrainRequest())
    assert owner.backend.heard == [("drain",), ("undrain",)]


async def test_the_load_comes_at_once_on_change_and_after_the_interval(owner, stub):
    call = stub.WatchLoad(worker_pb2.WatchLoadRequest(interval_ms=400))
    assert (await call.read()).running == 0
    owner.backend.report.running = 5
    started = asyncio.get_running_loop().time()
    assert (await call.read()).running == 5
    assert asyncio.get_running_loop().time() - started < 0.3
    assert (await call.read()).running == 5
    assert 0.3 < asyncio.get_running_loop().time() - started < 1.5
    call.cancel()


@pytest.mark.parametrize("interval_ms", [1, 49, 60_001])
async def test_an_interval_out_of_range_is_refused(stub, interval_ms):
    call = stub.WatchLoad(worker_pb2.WatchLoadRequest(interval_ms=interval_ms))
    assert isinstance(await refusal(call), InvalidRequest)


async def test_a_reader_is_paired_for_as_long_as_its_handshake_lives(owner, stub):
    call = stub.Handshake()
    await call.write(hello())
    offer = (await call.read()).offer
    assert offer.agent_name == "owner"
    assert owner.servicer.readers.is_paired("reader-1")
    await call.write(settled(offer.reader_token, 4, 5))
    await until(lambda: len(owner.backend.heard) == 2)
    call.cancel()
    await until(lambda: not owner.servicer.readers.is_paired("reader-1"))
    assert owner.backend.heard == [
        ("joined", "reader-1"), ("settled", "reader-1", (4, 5)), ("gone", "reader-1")
    ]  # fmt: skip


async def test_a_hello_with_the_token_replaces_the_handshake_and_the_reader_is_gone_only_with_the_new_one(
    owner, stub
):
    old, token = await paired(stub)
    new, again = await paired(stub, reader_token=token)
    assert again == token
    assert isinstance(await refusal(old), Cancelled)
    await new.write(settled(token, 6))
    await until(lambda: len(owner.backend.heard) == 2)
    await new.done_writing()
    await until(lambda: not owner.servicer.readers.is_paired("reader-1"))
    assert owner.backend.heard == [
        ("joined", "reader-1"),
        ("settled", "reader-1", (6,)),
        ("gone", "reader-1"),
    ]


@pytest.mark.parametrize("token", [b"", bytes(16), b"\xff" * 17])
async def test_a_hello_without_the_token_of_a_paired_reader_changes_nothing(owner, stub, token):
    call, own = await paired(stub)
    forger = stub.Handshake()
    await forger.write(hello(reader_token=token))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await forger.read()
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert isinstance(from_rpc_error(caught.value), AlreadyPaired)
    assert owner.backend.heard == [("joined", "reader-1")]
    await call.write(settled(own, 1))
    await until(lambda: ("settled", "reader-1", (1,)) in owner.backend.heard)
    call.cancel()


@pytest.mark.parametrize("token", [b"", bytes(16)])
async def test_settled_without_the_token_has_no_effect_and_ends_the_stream(owner, stub, token):
    call, _ = await paired(stub)
    await call.write(settled(token, 1))
    assert isinstance(await refusal(call), Unavailable)
    assert owner.backend.heard == [("joined", "reader-1"), ("gone", "reader-1")]


async def test_every_reader_and_every_owner_has_a_token_of_its_own(owner, stub):
    calls = [await paired(stub, incarnation=f"reader-{n}") for n in range(20)]
    tokens = {token for _, token in calls}
    assert len(tokens) == 20
    assert {len(token) for token in tokens} == {16}
    assert owner.backend.offer().reader_token == b""
    for call, _ in calls:
        call.cancel()


async def test_no_token_is_logged(owner, stub, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    old, token = await paired(stub)
    new, _ = await paired(stub, reader_token=token)
    await refusal(old)
    forger = stub.Handshake()
    await forger.write(hello(reader_token=b"guess" + token[:11]))
    wrong = await refusal(forger)
    new.cancel()
    await until(lambda: ("gone", "reader-1") in owner.backend.heard)
    said = caplog.text + "".join(capfd.readouterr()) + wrong.message
    assert "reader paired" in said
    forms = (token.hex(), repr(token)[2:-1], base64.b64encode(token).decode(), str(list(token))[1:-1])
    assert not any(form in said for form in forms)
    assert "guess" not in said


@pytest.mark.parametrize("claimed", ["WORKER_ROLE_DECODE", "WORKER_ROLE_VISION", "WORKER_ROLE_PREFILL"])
async def test_a_reader_has_the_role_of_its_certificate_or_is_offered_nothing(owner, tmp_path, claimed):
    deployment = Deployment(tmp_path)
    secured = Owner(owner.backend, deployment.endpoints("decode"))
    await secured.start()
    try:
        async with deployment.endpoints("prefill").channel(secured.address, "decode") as channel:
            call = worker_pb2_grpc.WorkerServiceStub(channel).Handshake()
            await call.write(hello(role=claimed))
            if claimed == "WORKER_ROLE_PREFILL":
                assert (await call.read()).offer.reader_token
                return
            error = await refusal(call)
    finally:
        await secured.stop()
    assert isinstance(error, PermissionDenied)
    role = claimed.rpartition("_")[2].lower()
    assert error.message == f"reader reader-1 calls itself {role}; its certificate is for prefill"
    assert owner.backend.heard == []


@pytest.mark.parametrize("name", ["", "x" * 101])
async def test_a_readers_name_is_bounded(owner, stub, name):
    call = stub.Handshake()
    await call.write(hello(name))
    assert isinstance(await refusal(call), InvalidRequest)
    assert owner.backend.heard == []


async def test_a_handshake_that_does_not_begin_with_hello_is_refused(owner, stub):
    call = stub.Handshake()
    await call.write(worker_pb2.HandshakeRequest(settled=worker_pb2.SettledLeases(lease_keys=[1])))
    assert isinstance(await refusal(call), InvalidRequest)
    empty = stub.Handshake()
    await empty.done_writing()
    assert isinstance(await refusal(empty), InvalidRequest)
    assert owner.backend.heard == []


async def test_another_model_is_refused_in_words_before_anything_is_offered(owner, stub):
    call = stub.Handshake()
    await call.write(hello(model=worker_pb2.ModelIdentity(fingerprint=b"g" * 32, hidden_size=HIDDEN)))
    error = await refusal(call)
    assert isinstance(error, Incompatible)
    assert "owner-1 refuses reader reader-1: checkpoint" in error.message
    assert not owner.servicer.readers.is_paired("reader-1")
    assert owner.backend.heard == []


async def test_every_watcher_hears_what_the_cache_holds_and_then_what_changes(owner, stub):
    owner.backend.cache.added(b"\x01" + bytes(15))
    calls = [stub.WatchLoad(worker_pb2.WatchLoadRequest()) for _ in range(2)]
    for call in calls:
        first = (await call.read()).cache
        assert (first.reset, list(first.added)) == (True, [1])
    owner.backend.cache.removed(b"\x01" + bytes(15))
    owner.backend.cache.added(b"\x02" + bytes(15))
    for call in calls:
        change = (await call.read()).cache
        assert (change.reset, list(change.added), list(change.removed)) == (False, [2], [1])
        assert not (await call.read()).HasField("cache")
        call.cancel()


async def test_a_transfer_check_is_the_hosts_and_has_64_rounds_unless_told_otherwise(owner, stub):
    for rounds in (0, 1, 4096):
        request = worker_pb2.CheckTransferRequest(
            address="other:1", role=worker_pb2.WORKER_ROLE_DECODE, rounds=rounds
        )
        assert (await stub.CheckTransfer(request)).incarnation == "other-1"
    assert owner.backend.heard == [("check", "other:1", "decode", rounds) for rounds in (64, 1, 4096)]


@pytest.mark.parametrize(
    ("address", "role", "rounds", "field"),
    [("other:1", 2, 4097, "rounds"), ("", 2, 1, "address"), ("other:1", 0, 1, "role")],
)
async def test_a_check_without_address_or_role_or_with_too_many_rounds_names_the_field(
    owner, stub, address, role, rounds, field
):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.CheckTransfer(worker_pb2.CheckTransferRequest(address=address, role=role, rounds=rounds))
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidRequest)
    assert error.param == field
    assert field in error.message
    assert owner.backend.heard == []


async def test_its_log_level_changes_and_a_wrong_one_is_refused(owner, stub):
    """The worker runs in this process, so it is this process's logs that change."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    out = io.StringIO()
    configure_logs("INFO", stream=out)
    try:
        await stub.SetLogLevel(worker_pb2.SetLogLevelRequest(level="debug"))
        structlog.get_logger().debug("details")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SetLogLevel(worker_pb2.SetLogLevelRequest(level="loud"))
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        logging.getLogger().handlers[:] = handlers
        logging.getLogger().setLevel(level)
    assert isinstance(from_rpc_error(caught.value), InvalidRequest)
    events = [json.loads(line)["event"] for line in out.getvalue().splitlines()]
    assert events == ["log level", "details"]
