"""An engine without a model: sends every stream's first token at once, then one per step.

python -m benchmarks.gateways.engine --http-port PORT --grpc-port PORT --stamps FILE [--step-ms 20]

It has two doors: OpenAI's chat over HTTP, for routers, and the decode worker's protocol, for Perigee's
gateway. A request's seed is the number of its stream; every token is one letter.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import grpc
import httptools
import uvloop
from msgspec import json

from benchmarks.gateways.stamps import Stamps
from perigee.v1 import (
    decode_pb2,
    sampling_pb2,
    worker_pb2,
    worker_pb2_grpc,
)
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.health import add_health
from services.common.rpc.tls.certificates import Certificates
from services.common.rpc.tls.security import Security
from services.common.rpc.tls.trust_domain import TrustDomain
from services.families.kimi.tokenizer import KimiTokenizer

_ROOM = 1 << 20


@dataclass(eq=False)
class Stream:
    """`door` sends its tokens; `name` identifies it there."""

    number: int
    length: int
    door: Door
    name: Any = None
    sent: int = 0


class Door(Protocol):
    """A way to clients."""

    def send(self, streams: list[Stream]) -> None:
        """Sends one more token of each stream, and stamps it."""


class Steps:
    """All streams, which get their tokens in common steps, as in an engine."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._streams: dict[Door, list[Stream]] = {}

    def add(self, stream: Stream) -> None:
        """Adds a stream; its first token is sent at once."""
        self._give(stream.door, [stream])
        if stream.sent < stream.length:
            self._streams.setdefault(stream.door, []).append(stream)

    def remove(self, door: Door) -> None:
        """Removes the streams of a door whose client is gone."""
        self._streams.pop(door, None)

    async def run(self) -> None:
        """Runs until cancelled. A late step does not delay the steps after it."""
        due = time.monotonic()
        while True:
            due += self._seconds
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for door, streams in list(self._streams.items()):
                self._give(door, streams)
                self._streams[door] = [stream for stream in streams if stream.sent < stream.length]

    def _give(self, door: Door, streams: list[Stream]) -> None:
        if streams:
            door.send(streams)
            for stream in streams:
                stream.sent += 1


class HttpDoor(asyncio.Protocol):
    """One connection: streamed chat completions, and an empty document for everything else that a router
    asks.
    """

    _HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

    def __init__(self, steps: Steps, stamps: Stamps) -> None:
        self._steps = steps
        self._stamps = stamps

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        self._steps.remove(self)

    def on_body(self, body: bytes) -> None:
        """httptools'."""
        self._body += body

    def on_message_complete(self) -> None:
        """httptools'."""
        body, self._body = self._body, b""
        if self._parser.get_method() != b"POST":
            document = b'{"status":"ok","model_path":"engine","data":[{"id":"engine"}]}'
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self._transport.write(head % len(document) + document)
            return
        request = json.decode(body)
        self._transport.write(self._HEAD)
        length = request.get("max_completion_tokens") or request["max_tokens"]
        self._steps.add(Stream(request["seed"], length, self))

    def send(self, streams: list[Stream]) -> None:
        """See Door; a connection has only one stream."""
        for stream in streams:
            self._stamps.set(stream.number, stream.sent, time.monotonic())
            self._transport.write(_EVENTS[stream.sent + 1 == stream.length])


def _event(finish: str) -> bytes:
    choice = '{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":' + finish + "}"
    head = '{"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1790000000,'
    return f'data: {head}"model":"engine","choices":[{choice}]}}\n\n'.encode()


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_EVENTS = {
    False: _framed(_event("null")),
    True: _framed(_event('"length"')) + _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n",
}


@dataclass(frozen=True)
class Responses:
    """A stream's responses with its first token, a later one, and its last; joined ones form one response."""

    first: bytes
    later: bytes
    last: bytes

    @classmethod
    def of(cls, handle: int, letter: int) -> Responses:
        """The responses of a worker for this handle and token."""
        deltas = (
            decode_pb2.SequenceDelta(handle=handle, token_ids=[letter], stats=decode_pb2.RequestStats()),
            decode_pb2.SequenceDelta(
                handle=handle, token_ids=[letter], finish_reason=sampling_pb2.FINISH_REASON_LENGTH
            ),
        )
        first, last = (decode_pb2.SessionResponse(deltas=[delta]).SerializeToString() for delta in deltas)
        columns = decode_pb2.TokenColumns(handles=[handle], choices=[0], token_ids=[letter])
        return cls(first, decode_pb2.SessionResponse(tokens=columns).SerializeToString(), last)

    def at(self, sent: int, length: int) -> bytes:
        """The response after `sent` of `length` tokens."""
        if sent + 1 == length:
            return self.last
        return self.later if sent else self.first


class Session:
    """A decode worker's session: one message for all tokens of a step, joined from bytes made once."""

    def __init__(self, steps: Steps, stamps: Stamps, letter: int) -> None:
        self._steps = steps
        self._stamps = stamps
        self._letter = letter
        self._outbox: asyncio.Queue[tuple[bytes, list[tuple[int, int]]]] = asyncio.Queue()

    async def converse(self, requests: AsyncIterator[decode_pb2.SessionRequest]) -> AsyncIterator[bytes]:
        """Serves the session."""
        reader = asyncio.create_task(self._read(requests))
        try:
            while True:
                message, tokens = await self._outbox.get()
                now = time.monotonic()
                for number, index in tokens:
                    self._stamps.set(number, index, now)
                yield message
        finally:
            reader.cancel()
            self._steps.remove(self)

    def send(self, streams: list[Stream]) -> None:
        """See Door; sends one message."""
        message = b"".join([stream.name.at(stream.sent, stream.length) for stream in streams])
        self._outbox.put_nowait((message, [(stream.number, stream.sent) for stream in streams]))

    async def _read(self, requests: AsyncIterator[decode_pb2.SessionRequest]) -> None:
        async for message in requests:
            for submit in message.submits:
                sampling = submit.sampling
                name = Responses.of(submit.handle, self._letter)
                self._steps.add(Stream(sampling.seed, sampling.max_tokens, self, name))


def _decode_service(steps: Steps, stamps: Stamps, letter: int) -> grpc.GenericRpcHandler:
    async def converse(
        requests: AsyncIterator[decode_pb2.SessionRequest], context: Any
    ) -> AsyncIterator[bytes]:
        async for message in Session(steps, stamps, letter).converse(requests):
            yield message

    method = grpc.stream_stream_rpc_method_handler(converse, decode_pb2.SessionRequest.FromString)
    return grpc.method_handlers_generic_handler("perigee.v1.DecodeService", {"Session": method})


class Worker(worker_pb2_grpc.WorkerServiceServicer):
    """A decode worker that always has room."""

    async def GetInfo(self, request: worker_pb2.GetInfoRequest, context: Any) -> worker_pb2.WorkerInfo:
        """Returns the worker's identity."""
        identity = worker_pb2.ModelIdentity(name="engine", context_length=1 << 18)
        return worker_pb2.WorkerInfo(role=worker_pb2.WORKER_ROLE_DECODE, incarnation="engine", model=identity)

    async def WatchLoad(
        self, request: worker_pb2.WatchLoadRequest, context: Any
    ) -> AsyncIterator[worker_pb2.LoadReport]:
        """Sends the same report every second."""
        while True:
            yield worker_pb2.LoadReport(pages=worker_pb2.PageCounts(free=_ROOM))
            await asyncio.sleep(1)


async def serve(
    http_port: int,
    grpc_port: int,
    stamps: Path,
    step_s: float,
    tokenizer: Path,
    secure: tuple[int, Path] | None,
) -> None:
    """Serves until cancelled. `secure`: a port for mTLS beside the others, and decode's certificate."""
    steps, table = Steps(step_s), Stamps(stamps)
    (letter,) = KimiTokenizer.from_dir(tokenizer).encode("a")
    doors = [(Endpoints("decode"), grpc_port)]
    if secure is not None:
        own = Certificates.of_peer(secure[1], TrustDomain(), "decode")
        doors.append((Endpoints("decode", Security(peers=own)), secure[0]))
    servers = []  # one that nobody knows would stop
    for endpoints, port in doors:
        server = endpoints.grpc_server()
        servers.append(server)
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(Worker(), server)
        server.add_generic_rpc_handlers((_decode_service(steps, table, letter),))
        health = await add_health(server, ())
        endpoints.bind_grpc(server, "127.0.0.1", port)
        await server.start()
        await health.set_serving()
    loop = asyncio.get_running_loop()
    await loop.create_server(lambda: HttpDoor(steps, table), "127.0.0.1", http_port, backlog=2048)
    await steps.run()


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateways.engine", description=__doc__)
    parser.add_argument("--http-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--stamps", type=Path, required=True)
    parser.add_argument("--step-ms", type=float, default=20.0)
    parser.add_argument("--tokenizer", type=Path, default=Path("models/kimi-nano"))
    parser.add_argument("--secure-port", type=int, default=None, help="gRPC with mTLS, beside the other one")
    parser.add_argument("--tls-dir", type=Path, default=None, help="decode's certificate for it")
    options = parser.parse_args()
    secure = (options.secure_port, options.tls_dir) if options.secure_port else None
    uvloop.run(
        serve(
            options.http_port,
            options.grpc_port,
            options.stamps,
            options.step_ms / 1e3,
            options.tokenizer,
            secure,
        )
    )


if __name__ == "__main__":
    main()
