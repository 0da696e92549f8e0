"""Requests whose answers depend only on their number."""

from __future__ import annotations

import base64
import functools
import io
import random
from typing import Any

from PIL import Image, ImageDraw

COUNT = 48
"""Different requests."""
_WORDS = (
    *("one", "two", "three", "red", "green", "blue", "small", "large", "cat", "dog", "house", "tree"),
    *("river", "sun", "moon", "road", "glass", "stone"),
)
_PROMPT_WORDS = (60, 500, 150, 300)
_ANSWER_TOKENS = (150, 400)
_NEVER = ("1282", "1291")
"""kimi-nano's tokens that end an answer or begin a tool call: what follows them is no text."""


def request(number: int, use: int) -> tuple[str, dict[str, Any]]:
    """The path and body of that number: every fourth is a chat with a picture, the others complete a text;
    half of them stream.

    `use`: a different one each time makes the workers compute everything again, with the same answer.
    """
    dice = random.Random(number)
    text = " ".join(dice.choice(_WORDS) for _ in range(_PROMPT_WORDS[number // 4 % len(_PROMPT_WORDS)]))
    common = {
        "max_tokens": dice.randint(*_ANSWER_TOKENS),
        "temperature": 0.8,
        "seed": number,
        "ignore_eos": True,
        "logit_bias": dict.fromkeys(_NEVER, -100),
        "skip_special_tokens": False,
        "cache_salt": str(use),
        "stream": number // 2 % 2 == 0,
    }
    if number % 4:
        return "/v1/completions", {"prompt": text, **common}
    url = "data:image/png;base64," + base64.b64encode(_picture(number) + use.to_bytes(8)).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    messages = [{"role": "user", "content": content}]
    return "/v1/chat/completions", {"messages": messages, "thinking": {"type": "disabled"}, **common}


@functools.cache
def _picture(number: int) -> bytes:
    """A drawing as a PNG file, which may be followed by other bytes."""
    dice = random.Random(number)
    image = Image.new("RGB", (448, 336), (dice.randrange(256), 200, dice.randrange(256)))
    pen = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = dice.randrange(400), dice.randrange(300)
        pen.rectangle((x, y, x + 60, y + 50), fill=(dice.randrange(256), dice.randrange(256), 40))
    with io.BytesIO() as file:
        image.save(file, "PNG")
        return file.getvalue()
