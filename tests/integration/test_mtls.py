"""The suite with certificates between its services: same answers, closed to others, rotated under load."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from perigee.v1 import admin_pb2, admin_pb2_grpc, decode_pb2_grpc, worker_pb2, worker_pb2_grpc
from services.cli.dev_certificates import Authority
from services.common.rpc.endpoints import Endpoints
from tests.support.certificates import Deployment
from tests.support.endpoints import open_sync_channel
from tests.support.stack import Stack
from tests.support.traffic import Answer, Traffic, mixture
from tests.support.waiting import wait_until

WORKERS = ("vision", "prefill", "decode")
# `make rotation` has more.
STREAMS = int(os.environ.get("ROTATION_STREAMS", "4"))
# Together they stay within the pages of decode.
STREAMED_TOKENS = min(1600, 50_000 // STREAMS)
IN_USE = "new certificates in use"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    deployment = Deployment(tmp_path_factory.mktemp("certificates"))
    deployment.issue_all()
    return deployment


@pytest.fixture(scope="module")
def secured(
    nano_dir: Path, tmp_path_factory: pytest.TempPathFactory, deployment: Deployment
) -> Iterator[Stack]:
    """All four processes, with mTLS between them, found by name. Every prompt goes through prefill."""
    flags: dict[str, dict[str, object]] = {"decode": {"local_prefill_tokens": 0}}
    stack = Stack(nano_dir, tmp_path_factory.mktemp("secured"), flags, deployment=deployment)
    flags["gateway"] = {role: f"localhost:{stack.ports[role]}" for role in WORKERS}
    try:
        stack.start()
        yield stack
    finally:
        codes = stack.stop()
    assert set(codes.values()) == {0}, f"exit codes after SIGTERM: {codes}"


def answers(stack: Stack, bodies: list[dict]) -> list[Answer]:
    async def go() -> list[Answer]:
        async with Traffic(stack.base_url) as traffic:
            return await traffic.ask_all(bodies)

    return asyncio.run(go())


def test_texts_and_images_are_answered_as_without_certificates(secured, suite):
    bodies = mixture(10, 501, max_tokens=30)
    found, expected = answers(secured, bodies), answers(suite, bodies)
    assert [answer.error for answer in found] == [None] * len(bodies)
    assert [answer.text for answer in found] == [answer.text for answer in expected]
    assert len({answer.text for answer in found}) == len(bodies)
    assert secured.counter("decode", "perigee_kv_transfer_bytes_total") > 0
    assert secured.counter("vision", "perigee_vision_cache_misses_total") > 0


def test_the_operator_sees_that_all_workers_have_certificates(secured, deployment):
    with deployment.endpoints("operator").sync_channel(secured.operator_address, "gateway") as channel:
        listed = admin_pb2_grpc.AdminServiceStub(channel).ListWorkers(admin_pb2.ListWorkersRequest())
    assert [(worker.reachable, worker.mtls) for worker in listed.workers] == [(True, True)] * 3


@pytest.mark.parametrize("name", [*WORKERS, "operator"])
def test_without_a_certificate_no_port_between_services_answers(secured, name):
    address = secured.operator_address if name == "operator" else secured.address(name)
    with open_sync_channel(address) as channel, pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_another_worker_can_neither_drain_a_worker_nor_send_it_requests(secured, deployment):
    with deployment.endpoints("prefill").sync_channel(secured.address("decode"), "decode") as channel:
        session = decode_pb2_grpc.DecodeServiceStub(channel).Session(iter(()), timeout=20)
        with pytest.raises(grpc.RpcError) as caught:
            next(session)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        with pytest.raises(grpc.RpcError) as caught:
            worker_pb2_grpc.WorkerServiceStub(channel).Drain(worker_pb2.DrainRequest(), timeout=20)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def rotate(stack: Stack, deployment: Deployment) -> Authority:
    """Replaces the CA and every certificate, in the steps of docs/security.md; returns the former CA."""
    former, successor = deployment.authority, Authority.new("successor")
    before = {name: stack.log(name).count(IN_USE) for name in stack.names}

    def step(number: int, authority: Authority, also_trusted: bytes) -> None:
        deployment.authority = authority
        deployment.issue_all(also_trusted)
        wait_until(
            lambda: all(stack.log(name).count(IN_USE) >= before[name] + number for name in stack.names),
            60,
            every_s=0.05,
        )

    step(1, former, successor.pem)
    step(2, successor, former.pem)
    step(3, successor, b"")
    return former


def test_rotation_of_everything_breaks_no_stream_and_no_read_and_shuts_out_the_former_ca(secured, deployment):
    early = mixture(STREAMS, 601, max_tokens=STREAMED_TOKENS)
    late = mixture(5, 701, max_tokens=10)
    expected = [answer.text for answer in answers(secured, [*early, *late])]
    read = secured.counter("decode", "perigee_kv_transfer_bytes_total")
    lost = losses(secured)
    streaming, meanwhile, former = asyncio.run(rotated_under(secured, deployment, early, late))

    assert [answer.error for answer in (*streaming, *meanwhile)] == [None] * (STREAMS + len(meanwhile))
    assert [answer.text for answer in streaming] == expected[:STREAMS]
    assert [answer.text for answer in meanwhile] == list(
        itertools.islice(itertools.cycle(expected[STREAMS:]), len(meanwhile))
    )
    assert len(meanwhile) >= len(late)
    assert secured.counter("decode", "perigee_kv_transfer_bytes_total") > read
    assert losses(secured) == lost

    kept = Deployment(deployment.directory / "former")
    kept.authority = former
    kept.issue("operator", also_trusted=deployment.authority.pem)
    assert health_of(secured, Endpoints("operator", kept.security("operator"))) is grpc.StatusCode.UNAVAILABLE
    assert health_of(secured, deployment.endpoints("operator")) is grpc.StatusCode.OK


def losses(stack: Stack) -> dict[str, int]:
    """How often each process says that a peer is lost or a session broke."""
    return {name: sum(stack.log(name).count(word) for word in (" lost", "broke")) for name in stack.names}


async def rotated_under(
    stack: Stack, deployment: Deployment, early: list[dict], late: list[dict]
) -> tuple[list[Answer], list[Answer], Authority]:
    """Streams `early` while everything rotates, and asks `late` over and over, never from a cache."""
    async with Traffic(stack.base_url) as traffic:
        begun = [Answer() for _ in early]
        streaming = [
            asyncio.create_task(traffic.ask(body | {"cache_salt": "rotated"}, answer))
            for body, answer in zip(early, begun, strict=True)
        ]
        await asyncio.gather(*(answer.begun.wait() for answer in begun))
        rotating = asyncio.create_task(asyncio.to_thread(rotate, stack, deployment))
        meanwhile: list[Answer] = []
        for turn in itertools.count():
            meanwhile += [
                await traffic.ask(body | {"cache_salt": f"turn {turn} {n}"}) for n, body in enumerate(late)
            ]
            if rotating.done():
                break
        former = rotating.result()
        print(
            f"{sum(not task.done() for task in streaming)} of {len(streaming)} streams outlived the rotation"
        )
        return list(await asyncio.gather(*streaming)), meanwhile, former


def health_of(stack: Stack, endpoints: Endpoints) -> grpc.StatusCode:
    """The code of a health check of decode."""
    with endpoints.sync_channel(stack.address("decode"), "decode") as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_workers_that_restart_after_a_rotation_are_found_and_paired_with_again(secured):
    for name in ("prefill", "vision"):
        secured.signal(name, signal.SIGTERM)
        assert secured.processes[name].wait(60) == 0
        secured.start(name)
    read = secured.counter("decode", "perigee_kv_transfer_bytes_total")
    bodies = mixture(5, 801, max_tokens=10)
    found = answers(secured, [body | {"cache_salt": "restarted"} for body in bodies])
    assert [answer.error for answer in found] == [None] * len(bodies)
    assert secured.counter("decode", "perigee_kv_transfer_bytes_total") > read
