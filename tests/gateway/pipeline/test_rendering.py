"""Rendering must not hold up the event loop."""

import asyncio
import threading

from services.common.kimi.tokenizer import Tokenizer
from services.gateway.pipeline.rendering import encode_text


class Watched:
    """A tokenizer that remembers on which thread it worked."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.threads = []

    def encode(self, text, parse_special=False):
        self.threads.append(threading.current_thread())
        return self.tokenizer.encode(text, parse_special)


async def test_a_long_text_is_encoded_in_a_thread_and_a_short_one_in_place(nano_dir):
    tokenizer = Watched(Tokenizer.from_dir(nano_dir))
    short = await encode_text(tokenizer, "short")
    long = await encode_text(tokenizer, "long " * 5000)
    assert short == tokenizer.tokenizer.encode("short")
    assert long == tokenizer.tokenizer.encode("long " * 5000)
    assert [thread is threading.main_thread() for thread in tokenizer.threads] == [True, False]


async def test_while_a_huge_prompt_is_encoded_other_requests_are_answered(suite):
    huge = asyncio.create_task(suite.chat(messages=[{"role": "user", "content": "Déjà vu 你好! " * 150_000}]))
    await asyncio.sleep(0.05)
    assert (await suite.chat()).status_code == 200
    assert not huge.done()
    assert (await huge).json()["error"]["code"] == "context_length_exceeded"
