"""REST and gRPC for clients by TLS."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from perigee.v1 import admin_pb2, admin_pb2_grpc, chat_pb2, chat_pb2_grpc, models_pb2, models_pb2_grpc
from services.cli.dev_certificates import Authority, write_bundle
from services.common.rpc.tls.bundle import CERTIFICATE, KEY
from services.common.rpc.tls.certificates import Certificates
from services.common.rpc.tls.security import Security
from tests.gateway.suite import chat_body, open_suite, wait_until
from tests.support.certificates import DAY

NAMES = ["localhost", "127.0.0.1"]


class Door:
    """The certificate of the ports for clients, from a CA that clients know."""

    def __init__(self, directory):
        self.directory = directory
        self.authority = Authority.new("public")
        self.issue()
        self.security = Security(door=Certificates.of_door(directory))

    def issue(self):
        write_bundle(self.directory, self.authority.of_server(NAMES, DAY))

    def context(self, client=None):
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        if client is not None:
            context.load_cert_chain(client / CERTIFICATE, client / KEY)
        return context

    def credentials(self, client=None):
        key, chain = (
            ((client / KEY).read_bytes(), (client / CERTIFICATE).read_bytes()) if client else (None,) * 2
        )
        return grpc.ssl_channel_credentials(self.authority.pem, key, chain)


@pytest.fixture
def door(tmp_path):
    return Door(tmp_path / "public")


@contextlib.asynccontextmanager
async def clients(suite, door, client=None):
    """REST and gRPC, with a client's certificate if one is given."""
    base = f"https://127.0.0.1:{suite.gateway.http_port}"
    address = f"localhost:{suite.gateway.grpc_port}"
    async with (
        httpx.AsyncClient(base_url=base, verify=door.context(client), trust_env=False) as rest,
        grpc.aio.secure_channel(address, door.credentials(client)) as channel,
    ):
        yield rest, channel


async def grpc_answer(channel):
    message = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])
    stub = chat_pb2_grpc.ChatServiceStub(channel)
    return await stub.Complete(chat_pb2.ChatRequest(messages=[message]), timeout=20)


async def test_chats_are_answered_by_tls_on_both_ports_and_streamed_too(door):
    async with open_suite(door=door.security) as suite, clients(suite, door) as (rest, channel):
        answer = await rest.post("/v1/chat/completions", json=chat_body())
        assert answer.json()["choices"][0]["message"]["content"] == "Hello!"
        streamed = await rest.post("/v1/chat/completions", json=chat_body(stream=True))
        assert streamed.text.endswith("data: [DONE]\n\n")
        assert (await grpc_answer(channel)).choices[0].content == "Hello!"


async def test_without_tls_neither_port_answers(door):
    async with open_suite(door=door.security) as suite:
        with pytest.raises(httpx.TransportError):
            await suite.http.get("/health")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await models_pb2_grpc.ModelServiceStub(suite.channel).ListModels(
                models_pb2.ListModelsRequest(), timeout=20
            )
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        listed = await admin_pb2_grpc.AdminServiceStub(suite.operator).ListWorkers(
            admin_pb2.ListWorkersRequest()
        )
        assert listed.workers, "the operator port has its own rules"


async def test_new_connections_see_a_new_certificate_and_open_ones_go_on(door):
    async with open_suite(door=door.security) as suite, clients(suite, door) as (rest, channel):
        assert (await rest.get("/health")).status_code == 200
        await grpc_answer(channel)
        before = door.authority
        door.authority = Authority.new("public 2")
        door.issue()
        assert door.security.door.look()
        assert (await rest.get("/health")).status_code == 200
        await grpc_answer(channel)

        async def is_new():
            async with clients(suite, door) as (fresh, fresh_channel):
                try:
                    await fresh.get("/health")
                except httpx.TransportError:
                    return False
                await grpc_answer(fresh_channel)
                return True

        await wait_until(is_new)
        door.authority = before
        async with clients(suite, door) as (stale, _):
            with pytest.raises(httpx.TransportError, match="certificate verify failed"):
                await stale.get("/health")


async def test_with_a_ca_for_clients_a_client_needs_a_certificate(door, tmp_path):
    ours, theirs = Authority.new("clients"), Authority.new("strangers")
    for name, authority in (("client", ours), ("stranger", theirs)):
        write_bundle(tmp_path / name, authority.of_server(["client"], DAY))
    security = dataclasses.replace(door.security, client_ca=ours.pem)
    async with open_suite(door=security) as suite:
        async with clients(suite, door, tmp_path / "client") as (rest, channel):
            assert (await rest.get("/health")).status_code == 200
            await grpc_answer(channel)
        for client in (None, tmp_path / "stranger"):
            async with clients(suite, door, client) as (rest, channel):
                with pytest.raises(httpx.TransportError):
                    await rest.get("/health")
                with pytest.raises(grpc.aio.AioRpcError):
                    await grpc_answer(channel)


@contextlib.asynccontextmanager
async def silent_clients(suite, count):
    """Connections to REST that never begin their handshake."""
    opened = [await asyncio.open_connection("127.0.0.1", suite.gateway.http_port) for _ in range(count)]
    try:
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.close()


async def ended(reader):
    """True once the server has closed the connection without a byte."""
    try:
        return await asyncio.wait_for(reader.read(), 10) == b""
    except ConnectionError:
        return True


async def test_two_hundred_silent_connections_stop_no_client_and_are_gone_in_the_time_of_headers(door):
    async with (
        open_suite(door=door.security, header_timeout_seconds=1.0) as suite,
        silent_clients(suite, 200) as readers,
        clients(suite, door) as (rest, _),
    ):
        assert (await rest.post("/v1/chat/completions", json=chat_body())).status_code == 200
        assert all(await asyncio.gather(*map(ended, readers)))
        assert (await rest.get("/health")).status_code == 200


async def test_handshakes_count_as_waiting_connections_and_the_oldest_makes_room(door):
    async with (
        open_suite(door=door.security, max_waiting_connections=10) as suite,
        silent_clients(suite, 15) as readers,
        clients(suite, door) as (rest, _),
    ):
        assert (await rest.post("/v1/chat/completions", json=chat_body())).status_code == 200
        assert all(await asyncio.gather(*map(ended, readers[:5])))
        assert not any(reader.at_eof() for reader in readers[-8:])


async def test_a_suite_that_stops_waits_for_no_handshake(door):
    async with open_suite(door=door.security) as suite, silent_clients(suite, 1) as (reader,):
        await asyncio.wait_for(suite.gateway.stop(), 10)
        assert await ended(reader)


async def test_the_operator_port_says_whether_the_gateway_is_ready():
    async with open_suite() as suite:
        stub = health_pb2_grpc.HealthStub(suite.operator)

        async def status():
            return (await stub.Check(health_pb2.HealthCheckRequest())).status

        async def serves():
            return await status() == health_pb2.HealthCheckResponse.SERVING

        async def refuses():
            return await status() == health_pb2.HealthCheckResponse.NOT_SERVING

        await wait_until(serves)
        await suite.workers["decode0"].stop()
        await wait_until(refuses)
        admin = health_pb2.HealthCheckRequest(service="perigee.v1.AdminService")
        assert (await stub.Check(admin)).status == health_pb2.HealthCheckResponse.SERVING


async def test_the_operator_port_says_of_each_worker_whether_it_gets_requests():
    async with open_suite() as suite:
        stub = health_pb2_grpc.HealthStub(suite.operator)
        workers = suite.workers.values()

        async def serve(*others):
            """Whether all workers but these get requests."""
            kinds = health_pb2.HealthCheckResponse
            for worker in workers:
                said = kinds.NOT_SERVING
                with contextlib.suppress(grpc.aio.AioRpcError):  # not known yet
                    request = health_pb2.HealthCheckRequest(service=worker.address)
                    said = (await stub.Check(request)).status
                if said != (kinds.NOT_SERVING if worker in others else kinds.SERVING):
                    return False
            return True

        await wait_until(serve)
        away = suite.workers["prefill"]
        await away.stop()
        await wait_until(lambda: serve(away))
