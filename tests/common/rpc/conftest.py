"""An in-process aio server whose handlers the tests give."""

from __future__ import annotations

import contextlib

import pytest

from perigee.v1 import chat_pb2_grpc, prefill_pb2_grpc
from services.common.rpc.health import add_health
from tests.support.endpoints import bind, build_server, open_channel


@contextlib.asynccontextmanager
async def serving(*, chat=None, prefill=None, **options):
    """The channel to a running server with these servicers."""
    server = build_server(**options)
    if chat is not None:
        chat_pb2_grpc.add_ChatServiceServicer_to_server(chat, server)
    if prefill is not None:
        prefill_pb2_grpc.add_PrefillServiceServicer_to_server(prefill, server)
    health = await add_health(server, ["perigee.v1.ChatService"])
    port = bind(server, "127.0.0.1", 0)
    await server.start()
    await health.set_serving()
    channel = open_channel(f"127.0.0.1:{port}")
    channel.target = f"127.0.0.1:{port}"
    try:
        yield channel
    finally:
        await channel.close()
        await server.stop(None)


@pytest.fixture(name="serving")
def serving_fixture():
    return serving
