"""Clients that do not read their streams hold the share of their own API key and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket

import grpc
import pytest

from perigee.v1 import generation_pb2, generation_pb2_grpc, sampling_pb2
from tests.gateway.access.keys import add_key
from tests.gateway.suite import chat_body, open_suite, wait_until

LIMIT, SHARE = 4, 3
TOKENS = 3000
"""With their log-probabilities they are more than the sockets of a connection hold."""


class RestReader:
    """A streamed chat of which at most the status line is read."""

    def __init__(self, suite, key):
        self.reader = self.writer = None
        self._port, self._key = suite.gateway.http_port, key

    async def begin(self):
        """Returns whether the stream is admitted."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self._port))
        self.reader, self.writer = await asyncio.open_connection(sock=client, limit=64)
        wanted = chat_body(max_tokens=TOKENS, stream=True, logprobs=True, top_logprobs=20)
        body = json.dumps(wanted).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {self._key}\r\n"
        )
        self.writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        status = (await self.reader.readline()).split()[1]
        assert status in (b"200", b"429")
        return status == b"200"

    async def leave(self):
        self.writer.transport.abort()


class GrpcReader:
    """A streamed generation of which one message is read."""

    def __init__(self, suite, key):
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{suite.gateway.grpc_port}", options)
        sampling = sampling_pb2.SamplingParams(max_tokens=TOKENS, logprobs=True, top_logprobs=20)
        self._call = generation_pb2_grpc.GenerationServiceStub(self._channel).StreamGenerate(
            generation_pb2.GenerateRequest(text="x", sampling=sampling), metadata=(("x-api-key", key),)
        )

    async def begin(self):
        """Returns whether the stream is admitted."""
        try:
            await self._call.read()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise
            return False
        return True

    async def leave(self):
        self._call.cancel()
        await self._channel.close()


@pytest.mark.parametrize("door", [RestReader, GrpcReader])
async def test_unread_streams_hold_their_keys_share_even_after_the_worker_is_done_and_others_are_served(
    tmp_path, door
):
    path = tmp_path / "keys.json"
    slow, other = add_key(path, "slow"), add_key(path, "other")
    async with open_suite(api_keys=str(path), max_concurrent_requests=LIMIT) as suite:
        long = suite.tokenizer.encode("word ") * TOKENS
        suite.decode.script = lambda submit, choice: long

        async def is_admitted():
            reader = door(suite, slow)
            try:
                return await reader.begin()
            finally:
                await reader.leave()

        async with contextlib.AsyncExitStack() as stack:
            begun = []
            for _ in range(SHARE + 2):
                reader = door(suite, slow)
                stack.push_async_callback(reader.leave)
                begun.append(await reader.begin())
            assert begun == [True] * SHARE + [False] * 2
            await wait_until(lambda: suite.decode.sent == SHARE * TOKENS)
            assert not await is_admitted(), "nobody has read what the worker has finished"
            answer = await suite.http.post(
                "/v1/chat/completions",
                json=chat_body(max_tokens=5),
                headers={"authorization": f"Bearer {other}"},
            )
            assert answer.status_code == 200
        await wait_until(is_admitted)
