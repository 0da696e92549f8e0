"""The real suite serves kimi-nano while somebody sends forged messages in decode's name."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from pathlib import Path

import httpx

from perigee.v1 import worker_pb2, worker_pb2_grpc
from tests.decode.forger import Forger
from tests.support.endpoints import open_channel
from tests.support.stack import Stack

NANO = Path(__file__).resolve().parents[2] / "models" / "kimi-nano"
AT_ONCE = 4
ANSWER_TOKENS = 8
PREFILL_PAGES = 64
"""Few, so that a page that is freed too early is soon used by another prompt."""


async def serve(requests: int, seed: int = 1) -> Counter[tuple[str, str]]:
    """Serves that many requests in peace, and again beside a forger; returns its answers.

    Raises AssertionError for a wrong text, a failed request, and a prompt that prefill did not compute.
    """
    flags = {"prefill": {"kv_pages": PREFILL_PAGES}}
    with tempfile.TemporaryDirectory() as logs, Stack(NANO, Path(logs), flags) as stack:
        await asyncio.to_thread(stack.start, "prefill", "decode", "vision", "gateway")
        draw = random.Random(seed)
        prompts = [[draw.randrange(1280) for _ in range(draw.randint(66, 190))] for _ in range(requests)]
        right = await _texts(stack, prompts, "in peace", [])
        computed = stack.counter("prefill", "perigee_prefill_computed_tokens_total")
        answered: list[int] = []
        async with (
            open_channel(stack.address("prefill")) as prefill,
            open_channel(stack.address("decode")) as decode,
        ):
            victim = await worker_pb2_grpc.WorkerServiceStub(decode).GetInfo(worker_pb2.GetInfoRequest())
            forger = Forger(prefill, victim, lambda: requests + len(answered))
            forging = asyncio.create_task(forger.run())
            try:
                texts = await _texts(stack, prompts, "beside a forger", answered)
                assert not forging.done(), forging.exception()
            finally:
                forging.cancel()
                await asyncio.wait([forging])
        wrong = sum(text != expected for text, expected in zip(texts, right, strict=True))
        assert wrong == 0, f"{wrong} wrong texts"
        fetched = stack.counter("prefill", "perigee_prefill_computed_tokens_total") - computed
        assert fetched >= sum(len(prompt) // 64 * 64 for prompt in prompts), "decode computed prompts itself"
        stack.wait_until_free(5.0, ("prefill", "decode"))
    return forger.answers


async def _texts(stack: Stack, prompts: list[list[int]], salt: str, answered: list[int]) -> list[str]:
    """The answers, in order; the places of those that have come are appended to `answered`."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(place: int) -> str:
        body = {
            "prompt": prompts[place],
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "skip_special_tokens": False,
            "cache_salt": salt,
        }
        async with turns:
            answer = await client.post("/v1/completions", json=body)
            assert answer.status_code == 200, answer.text
            answered.append(place)
        return str(answer.json()["choices"][0]["text"])

    async with httpx.AsyncClient(base_url=stack.base_url, timeout=60, trust_env=False) as client:
        return await asyncio.gather(*(ask(place) for place in range(len(prompts))))
