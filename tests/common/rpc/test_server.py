from __future__ import annotations

import socket

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from perigee.v1 import chat_pb2, chat_pb2_grpc
from services.common.errors import ConfigError
from services.common.rpc.channel import open_channel, open_sync_channel
from services.common.rpc.server import add_health, bind, build_server

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_is_not_serving_until_it_is_said_to_be():
    server = build_server()
    health = await add_health(server, ["perigee.v1.ChatService"])
    port = bind(server, "127.0.0.1", 0)
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "perigee.v1.ChatService"):
            request = health_pb2.HealthCheckRequest(service=service)
            assert (await stub.Check(request)).status == NOT_SERVING
            await health.set_serving()
            assert (await stub.Check(request)).status == SERVING
            await health.set_not_serving()
    await server.stop(None)


async def test_reflection_lists_the_services(serving):
    async with serving() as channel:
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        answer = await call.read()
        names = {service.name for service in answer.list_services_response.service}
    assert {"perigee.v1.ChatService", "grpc.health.v1.Health"} <= names


async def test_a_taken_port_is_named_with_the_flag_that_changes_it():
    first, second = build_server(), build_server()
    port = bind(first, "127.0.0.1", 0)
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: the port is taken; .*--grpc-port"):
        bind(second, "127.0.0.1", port, "--grpc-port")
    await first.stop(None)
    await second.stop(None)


async def test_a_port_another_program_holds_is_taken_too():
    with socket.create_server(("127.0.0.1", 0)) as holder:
        server = build_server()
        with pytest.raises(ConfigError, match="the port is taken"):
            bind(server, "127.0.0.1", holder.getsockname()[1])
        await server.stop(None)


async def test_a_number_that_is_no_port_is_refused():
    server = build_server()
    with pytest.raises(ConfigError, match="70000 is not a port"):
        bind(server, "127.0.0.1", 70000)
    await server.stop(None)


async def test_a_message_over_the_limit_is_refused(serving):
    async with serving(max_message_bytes=1000) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await chat_pb2_grpc.ChatServiceStub(channel).Complete(chat_pb2.ChatRequest(model="x" * 2000))
    assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED)


async def test_no_proxy_stands_between_our_own_processes(serving, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving() as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    assert answer.status == SERVING


async def test_nobody_listening_is_unavailable_at_once():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open_sync_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
