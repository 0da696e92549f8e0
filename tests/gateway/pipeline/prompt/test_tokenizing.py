"""Tokenizing keeps to its own threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from services.common.errors import DeadlineExceeded
from services.families.kimi.chat_format import KimiChat
from services.families.kimi.family import KIMI
from services.families.kimi.tokenizer import KimiTokenizer
from services.gateway.pipeline.prompt.tokenizing import Tokenizing
from services.gateway.pipeline.request import TextPrompt
from services.gateway.served_model import ServedModel
from services.gateway.workers.pool import WorkerPool
from tests.gateway.local_media import local_media
from tests.support.endpoints import ENDPOINTS
from tests.support.waiting import until

LONG = "long " * 5000


class Held:
    """A tokenizer that works only once it is released."""

    def __init__(self, tokenizer: KimiTokenizer) -> None:
        self.special = tokenizer.special
        self.inside = 0
        self.released = threading.Event()

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        self.inside += 1
        self.released.wait(10)
        return [len(text)]


@pytest.fixture
def tokenizer(nano_dir):
    held = Held(KimiTokenizer.from_dir(nano_dir))
    yield held
    held.released.set()


def tokenizing(tokenizer, timeout_s=10.0) -> Tokenizing:
    model = ServedModel(("m",), KIMI, KimiChat(tokenizer), 100, 100, vision=False, profile=KIMI.profiles[0])
    return Tokenizing(model, WorkerPool("", "", "", ENDPOINTS), local_media(), timeout_s)


async def test_however_many_texts_are_to_be_encoded_two_are_at_a_time_and_other_threads_are_free(tokenizer):
    stage = tokenizing(tokenizer)
    tasks = [asyncio.create_task(stage.tokenize("", TextPrompt(LONG), 1, "prompt")) for _ in range(40)]
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(str, 1) == "1"
    assert tokenizer.inside == 2
    tokenizer.released.set()
    assert [made.token_ids for made in await asyncio.gather(*tasks)] == [(len(LONG),)] * 40
    stage.close()


async def test_what_takes_too_long_is_not_waited_for(tokenizer):
    stage = tokenizing(tokenizer, timeout_s=0.05)
    with pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        await stage.tokenize("", TextPrompt(LONG), 1, "prompt")


async def test_who_leaves_the_queue_is_not_served(tokenizer):
    stage = tokenizing(tokenizer)
    tasks = [asyncio.create_task(stage.tokenize("", TextPrompt(LONG), 1, "prompt")) for _ in range(5)]
    await until(lambda: tokenizer.inside == 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tokenizer.released.set()
    assert (await stage.tokenize("", TextPrompt("last " * 5000), 1, "prompt")).token_ids
    assert tokenizer.inside == 3
    stage.close()
