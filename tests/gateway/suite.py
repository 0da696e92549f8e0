"""A gateway over fake workers, all in one process, on free ports."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import grpc
import httpcore
import httpx

from perigee.v1 import decode_pb2, worker_pb2
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.tls.security import Security
from services.common.telemetry.tracer import Tracer
from services.families.kimi.tokenizer import KimiTokenizer
from services.gateway.config import GatewayConfig
from services.gateway.gateway import Gateway
from services.gateway.workers.session import DecodeSession
from tests.gateway.fakes import FakeDecode, FakeServer, FakeVision, FakeWorker
from tests.support.endpoints import ENDPOINTS
from tests.support.waiting import until

NANO = Path(__file__).resolve().parents[1] / "data" / "kimi-nano"
CONTEXT_LENGTH = 8192


@dataclass
class Suite:
    """What a test talks to."""

    gateway: Gateway
    tokenizer: KimiTokenizer
    decodes: list[FakeDecode]
    vision: FakeVision
    workers: dict[str, FakeServer]
    http: httpx.AsyncClient
    channel: grpc.aio.Channel
    operator: grpc.aio.Channel

    @property
    def decode(self) -> FakeDecode:
        return self.decodes[0]

    def say(self, text: str, *, end: bool = True) -> None:
        """Makes the decode workers answer with `text`, special-token strings in it being control tokens."""
        ids = self.tokenizer.encode(text, parse_special=True)
        tail = [min(self.tokenizer.stop_ids)] if end else []
        for decode in self.decodes:
            decode.script = lambda submit, choice: [*ids, *tail]

    async def chat(self, **body: Any) -> httpx.Response:
        """POST /v1/chat/completions with a short conversation unless told otherwise."""
        return await self.http.post("/v1/chat/completions", json=chat_body(**body))

    async def stream(self, **body: Any) -> list[dict[str, Any]]:
        """The chunks of a streamed answer; the last one may be an error object."""
        answer = await self.chat(stream=True, **body)
        assert answer.status_code == 200, answer.text
        return parse_events(answer.text)


def chat_body(**body: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}], **body}


def parse_events(text: str) -> list[dict[str, Any]]:
    """The JSON documents of an event stream, after checking its framing."""
    lines = text.split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") and "\n" not in line for line in lines)
    if lines[-1] == "data: [DONE]":
        lines.pop()
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def joined(chunks: Sequence[dict[str, Any]], key: str, index: int = 0) -> str:
    """The concatenated `key` of a choice's deltas."""
    choices = [choice for chunk in chunks for choice in chunk.get("choices", []) if choice["index"] == index]
    return "".join(choice["delta"].get(key) or "" for choice in choices)


async def wait_until(condition: Any, timeout_s: float = 10.0) -> None:
    """As `until`, with the patience that a whole suite needs."""
    await until(condition, timeout_s)


def checkpoint(directory: Path, tokenizer: KimiTokenizer) -> Path:
    """A checkpoint as far as a gateway reads it: the embedded tokenizer and a configuration of our own."""
    model = directory / "kimi-nano"
    model.mkdir()
    for name in ("tiktoken.model", "tokenizer_config.json"):
        (model / name).symlink_to(NANO / name)
    text = {"max_position_embeddings": CONTEXT_LENGTH, "vocab_size": tokenizer.vocab_size}
    (model / "config.json").write_text(json.dumps({"model_type": "kimi_k25", "text_config": text}))
    return model


@contextlib.asynccontextmanager
async def counted_reads() -> AsyncIterator[Counter[str]]:
    """How many responses the gateway has read of each decode worker's address."""
    counts: Counter[str] = Counter()
    deliver = DecodeSession._deliver

    async def count(session: DecodeSession, responses: Sequence[decode_pb2.SessionResponse]) -> None:
        counts[session.address] += len(responses)
        await deliver(session, responses)

    with mock.patch.object(DecodeSession, "_deliver", count):
        yield counts


@contextlib.asynccontextmanager
async def open_suite(
    *,
    decodes: int = 1,
    vision: bool = True,
    prefill: bool = True,
    prefill_worker: FakeWorker | None = None,
    context_length: int = 0,
    more_decodes: tuple[str, ...] = (),
    network: httpcore.AsyncNetworkBackend | None = None,
    door: Security | None = None,
    tracer: Tracer | None = None,
    **settings: Any,
) -> AsyncIterator[Suite]:
    """Starts workers, then a gateway, and waits until it is healthy.

    `more_decodes`: entries of the decode pool beside the workers' own. `door`: how the ports for clients are
    protected; the suite's own clients then reach the operator port alone.
    """
    tokenizer = KimiTokenizer.from_dir(NANO)
    fakes = [FakeDecode(lambda submit, choice: []) for _ in range(decodes)]
    encoder = FakeVision()
    workers = {
        f"decode{i}": await FakeServer.start(FakeWorker(worker_pb2.WORKER_ROLE_DECODE, context_length), fake)
        for i, fake in enumerate(fakes)
    }
    if vision:
        workers["vision"] = await FakeServer.start(FakeWorker(worker_pb2.WORKER_ROLE_VISION), encoder)
    if prefill:
        workers["prefill"] = await FakeServer.start(
            prefill_worker or FakeWorker(worker_pb2.WORKER_ROLE_PREFILL)
        )
    directory = tempfile.TemporaryDirectory()
    config = GatewayConfig(
        model=str(checkpoint(Path(directory.name), tokenizer)),
        http_port=0,
        grpc_port=0,
        operator_port=0,
        vision=workers["vision"].address if vision else "",
        prefill=workers["prefill"].address if prefill else "",
        decode=",".join((*(workers[f"decode{i}"].address for i in range(decodes)), *more_decodes)),
        served_model_name="kimi,kimi-alias",
        grace_seconds=0.2,
    )
    endpoints = ENDPOINTS if door is None else Endpoints("gateway", door)
    gateway = Gateway(dataclasses.replace(config, **settings), endpoints, network, tracer)
    await gateway.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}")
    operator = grpc.aio.insecure_channel(f"127.0.0.1:{gateway.operator_port}")
    base = f"http://127.0.0.1:{gateway.http_port}"
    limits = httpx.Limits(max_connections=None)
    client = httpx.AsyncClient(base_url=base, timeout=30.0, limits=limits, trust_env=False)
    async with counted_reads() as reads, client as http:
        for index, fake in enumerate(fakes):
            fake.read = functools.partial(reads.__getitem__, workers[f"decode{index}"].address)
        suite = Suite(gateway, tokenizer, fakes, encoder, workers, http, channel, operator)
        suite.say("Thinking.</think>Hello!")
        try:
            await wait_until(lambda: not gateway.pool.missing_roles())
            yield suite
        finally:
            await channel.close()
            await operator.close()
            await gateway.stop()
            for server in workers.values():
                await server.stop()
            directory.cleanup()
