"""Floods of one API key: each keeps as many requests going as it may, and asks again when it is refused."""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import grpc
import httpx
from PIL import Image

from benchmarks.child import Pipe
from perigee.v1 import generation_pb2, generation_pb2_grpc, sampling_pb2

_PAUSE_S = 0.1
"""After a refusal. Less than any refusal asks for."""
_SIDE = 7000


@dataclass(frozen=True)
class Doors:
    """Where a gateway listens, and a key that it knows."""

    url: str
    grpc_port: int
    key: str


def flood_in_child(
    pipe: Pipe, name: str, begins: float, seconds: float, url: str, grpc_port: int, key: str
) -> dict[str, int]:
    """Floods for so many seconds, in a process of its own; returns how the requests ended that did. `begins`:
    when, by time.monotonic().
    """
    os.nice(19)  # the time that the clients take is no effect of the flood
    time.sleep(max(0.0, begins - time.monotonic()))
    return asyncio.run(_flood(FLOODS[name], seconds, Doors(url, grpc_port, key)))


async def _flood(flood: Flood, seconds: float, doors: Doors) -> dict[str, int]:
    ends: Counter[str] = Counter()
    limits = httpx.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {doors.key}"}
    async with httpx.AsyncClient(
        base_url=doors.url, timeout=600, trust_env=False, limits=limits, headers=headers
    ) as client:
        numbers = itertools.count()

        async def repeat() -> None:
            while True:
                end = await flood.ask(client, doors, next(numbers))
                ends[end] += 1
                if end != "200":
                    await asyncio.sleep(_PAUSE_S)

        tasks = [asyncio.create_task(repeat()) for _ in range(flood.width)]
        await asyncio.sleep(seconds)
        failed = [task.exception() for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failed:
        raise RuntimeError(f"the flood broke off: {failed[0]!r}")
    return dict(ends)


async def _stream(client: httpx.AsyncClient, doors: Doors, number: int) -> str:
    dice = random.Random(number)
    body = {
        "prompt": [dice.randrange(10, 1000) for _ in range(256)],
        "max_tokens": 2000,
        "ignore_eos": True,
        "stream": True,
    }
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        async for _ in answer.aiter_raw():
            pass
    return str(answer.status_code)


async def _unread(client: httpx.AsyncClient, doors: Doors, number: int) -> str:
    """A call over gRPC whose answer is not read, on a connection of its own."""
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{doors.grpc_port}", [("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        sampling = sampling_pb2.SamplingParams(
            max_tokens=4000, ignore_eos=True, top_logprobs=20, logprobs=True
        )
        request = generation_pb2.GenerateRequest(text=f"flood {number}", sampling=sampling)
        call = stub.StreamGenerate(request, metadata=(("x-api-key", doors.key),))
        try:
            await call.read()
            await asyncio.sleep(20)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        finally:
            call.cancel()
    return "200"


async def _image(client: httpx.AsyncClient, doors: Doors, number: int) -> str:
    """A picture of 7000 x 7000, another file each time."""
    file = await asyncio.to_thread(_picture) + number.to_bytes(8)
    url = "data:image/png;base64," + base64.b64encode(file).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
    body = {"messages": [{"role": "user", "content": parts}], "max_tokens": 16}
    return str((await client.post("/v1/chat/completions", json=body)).status_code)


@functools.cache
def _picture() -> bytes:
    """Made once: to make one takes as long as to read it."""
    with io.BytesIO() as file:
        Image.new("L", (_SIDE, _SIDE), 99).save(file, "PNG", compress_level=1)
        return file.getvalue()


async def _grammar(client: httpx.AsyncClient, doors: Doors, number: int) -> str:
    """A schema of many fields, another one each time."""
    field = {"type": "string", "pattern": "^[a-z]{1,40}[0-9]{1,40}$"}
    properties = {f"field_{number}_{index}": field for index in range(100)}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    body = {
        "messages": [{"role": "user", "content": "Hi"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        "max_tokens": 200,
        "thinking": {"type": "disabled"},
    }
    return str((await client.post("/v1/chat/completions", json=body)).status_code)


@dataclass(frozen=True)
class Flood:
    """`width`: requests at a time. `ask` makes one, by its number, and returns how it ended."""

    width: int
    ask: Callable[[httpx.AsyncClient, Doors, int], Awaitable[str]]


FLOODS: Mapping[str, Flood] = MappingProxyType(
    {
        "streams": Flood(128, _stream),
        "unread": Flood(64, _unread),
        "images": Flood(8, _image),
        "grammars": Flood(32, _grammar),
    }
)
