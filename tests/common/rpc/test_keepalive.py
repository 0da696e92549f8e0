from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.rpc.keepalive import Keepalive
from tests.support.endpoints import open_channel
from tests.support.waiting import scaled

PEER = """
import asyncio
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.health import add_health

async def main():
    endpoints = Endpoints("decode")
    server = endpoints.grpc_server()
    health = await add_health(server, [])
    print(endpoints.bind_grpc(server, "127.0.0.1", 0), flush=True)
    await server.start()
    await health.set_serving()
    await server.wait_for_termination()

asyncio.run(main())
"""


def peer_process():
    return subprocess.Popen([sys.executable, "-c", PEER], stdout=subprocess.PIPE, text=True)


async def test_a_stopped_peer_is_noticed_within_the_times_set():
    with peer_process() as peer:
        try:
            keepalive = Keepalive(time_ms=500, timeout_ms=1000)
            address = f"127.0.0.1:{int(peer.stdout.readline())}"
            async with open_channel(address, keepalive=keepalive) as channel:
                call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
                assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
                os.kill(peer.pid, signal.SIGSTOP)
                began = time.monotonic()
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await asyncio.wait_for(call.read(), 30)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                assert time.monotonic() - began < scaled(10)
        finally:
            peer.kill()


def test_a_lessor_does_not_give_up_a_silent_reader_before_its_lease_is_over():
    assert dict(Keepalive.of_lessor(30.0).server_options())["grpc.http2.ping_timeout_ms"] == 30_000
    assert dict(Keepalive.of_lessor(30.0).server_options())["grpc.keepalive_timeout_ms"] == 30_000
    assert Keepalive.of_lessor(0.0) == Keepalive()
