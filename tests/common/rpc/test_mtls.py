"""Connections between services with certificates: real gRPC on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import datetime

import grpc
import pytest

from services.cli.dev_certificates import Authority, write_bundle
from services.common.errors import ConfigError
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.tls.bundle import Bundle
from services.common.rpc.tls.security import channel_credentials
from tests.support.certificates import DAY, DOMAIN, Deployment
from tests.support.endpoints import open_channel

SESSION, INFO = "/perigee.v1.DecodeService/Session", "/perigee.v1.WorkerService/GetInfo"


class Echo(grpc.GenericRpcHandler):
    """Answers each message with itself; a call lasts until its caller ends it."""

    def service(self, details):
        async def stream(requests, context):
            async for request in requests:
                yield request

        async def answer(request, context):
            return request

        if details.method == SESSION:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def deployment(tmp_path):
    return Deployment(tmp_path)


@contextlib.asynccontextmanager
async def serving(endpoints):
    server = endpoints.grpc_server()
    server.add_generic_rpc_handlers((Echo(),))
    port = endpoints.bind_grpc(server, "127.0.0.1", 0)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def ask(channel):
    """The answer, or the code and the details of the failure."""
    try:
        return await channel.unary_unary(INFO)(b"hello", timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code()


def shown(deployment, bundle, name="decode.perigee.internal"):
    """A channel that shows a certificate of the test's choice."""
    options = [("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)]
    return lambda address: grpc.aio.secure_channel(address, channel_credentials(bundle), options)


async def test_services_with_certificates_of_one_ca_talk_whatever_their_addresses_are(deployment):
    async with serving(deployment.endpoints("decode")) as address:
        for at in (address, address.replace("127.0.0.1", "localhost")):
            async with deployment.endpoints("gateway").channel(at, "decode") as channel:
                assert await ask(channel) == b"hello"


async def test_threads_have_channels_too(deployment):
    async with serving(deployment.endpoints("decode")) as address:
        with deployment.endpoints("operator").sync_channel(address, "decode") as channel:
            assert await asyncio.to_thread(channel.unary_unary(INFO), b"hi", timeout=20) == b"hi"


async def test_without_a_certificate_there_is_no_handshake(deployment):
    async with serving(deployment.endpoints("decode")) as address:
        trusting = grpc.ssl_channel_credentials(deployment.authority.pem)
        options = [("grpc.ssl_target_name_override", "decode.perigee.internal")]
        async with grpc.aio.secure_channel(address, trusting, options) as channel:
            assert await ask(channel) is grpc.StatusCode.UNAVAILABLE
        async with open_channel(address) as channel:
            assert await ask(channel) is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_of_another_ca_is_refused_though_the_ca_has_the_same_name(deployment):
    stranger = Authority.new("test").of_role(DOMAIN, "gateway", DAY)
    forged = Bundle(stranger.chain, stranger.key, deployment.authority.pem)
    async with (
        serving(deployment.endpoints("decode")) as address,
        shown(deployment, forged)(address) as channel,
    ):
        assert await ask(channel) is grpc.StatusCode.UNAVAILABLE


async def test_an_expired_certificate_is_refused(deployment):
    expired = deployment.authority.of_role(DOMAIN, "gateway", -datetime.timedelta(seconds=1))
    async with (
        serving(deployment.endpoints("decode")) as address,
        shown(deployment, expired)(address) as channel,
    ):
        assert await ask(channel) is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_refuses_a_server_of_another_role(deployment):
    async with serving(deployment.endpoints("prefill")) as address:
        async with deployment.endpoints("gateway").channel(address, "decode") as channel:
            assert await ask(channel) is grpc.StatusCode.UNAVAILABLE
        async with deployment.endpoints("gateway").channel(address, "prefill") as channel:
            assert await ask(channel) == b"hello"


async def test_a_caller_with_certificates_talks_to_no_plain_server(deployment):
    async with (
        serving(Endpoints("decode")) as address,
        deployment.endpoints("gateway").channel(address, "decode") as channel,
    ):
        assert await ask(channel) is grpc.StatusCode.UNAVAILABLE


async def test_rotation_leaves_streams_open_and_new_connections_use_the_new_certificates(deployment):
    server, client = deployment.endpoints("decode"), deployment.endpoints("gateway")
    async with serving(server) as address, client.channel(address, "decode") as channel:
        call = channel.stream_stream(SESSION)()
        await call.write(b"before")
        assert await call.read() == b"before"
        # Both CAs are trusted while certificates change, then the new one alone.
        former, successor = deployment.authority, Authority.new("successor")
        for role in ("decode", "gateway"):
            deployment.issue(role, also_trusted=successor.pem)
        assert server.security.peers.look()
        assert client.security.peers.look()
        deployment.authority = successor
        for role in ("decode", "gateway"):
            deployment.issue(role, also_trusted=former.pem)
        for role, endpoints in (("decode", server), ("gateway", client)):
            assert endpoints.security.peers.look()
            deployment.issue(role)
            assert endpoints.security.peers.look()
        await call.write(b"after")
        assert await call.read() == b"after"
        assert client.outdated(channel)
        async with client.channel(address, "decode") as fresh:
            assert not client.outdated(fresh)
            assert await ask(fresh) == b"hello"
        # The former CA is withdrawn: its certificates open nothing any more.
        kept = former.of_role(DOMAIN, "gateway", DAY)
        async with shown(deployment, Bundle(kept.chain, kept.key, successor.pem))(address) as late:
            assert await ask(late) is grpc.StatusCode.UNAVAILABLE
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_an_open_channel_outlives_its_certificate_but_does_not_connect_again(deployment):
    server = deployment.endpoints("decode")
    briefly = deployment.authority.of_role(DOMAIN, "gateway", DAY)
    async with serving(server) as address, shown(deployment, briefly)(address) as channel:
        assert await ask(channel) == b"hello"
        deployment.authority = Authority.new("successor")
        deployment.issue("decode")
        assert server.security.peers.look()
        assert await ask(channel) == b"hello"
        async with shown(deployment, briefly)(address) as again:
            assert await ask(again) is grpc.StatusCode.UNAVAILABLE


def test_a_plain_channel_is_never_outdated():
    endpoints = Endpoints("gateway")

    async def asked():
        async with endpoints.channel("127.0.0.1:1", "decode") as channel:
            return endpoints.outdated(channel)

    assert asyncio.run(asked()) is False


@pytest.mark.parametrize("door", [False, True])
async def test_an_address_that_others_reach_is_not_bound_without_certificates(door):
    server = Endpoints("gateway").grpc_server(door=door)
    flag = "--public-tls-dir" if door else "--tls-dir"
    with pytest.raises(ConfigError, match=rf"other machines reach 0\.0\.0\.0, .*{flag}.*--insecure"):
        Endpoints("gateway").bind_grpc(server, "0.0.0.0", 0, door=door)
    await server.stop(None)


def test_the_key_is_in_no_text_about_the_certificates(deployment):
    deployment.issue("decode")
    bundle = deployment.security("decode").peers.current
    assert "PRIVATE" in bundle.key.decode()
    assert "PRIVATE" not in repr(deployment.security("decode")) + repr(bundle)
    write_bundle(deployment.path("decode"), bundle)
    assert (deployment.path("decode") / "tls.key").stat().st_mode & 0o077 == 0
