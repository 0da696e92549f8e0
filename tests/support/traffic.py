"""Mixed traffic on a running suite's REST door, and its answers."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from PIL import Image, ImageDraw

_ON_THE_WAY_S = 0.15
WORDS = (
    *("one", "two", "three", "red", "green", "blue", "small", "large", "cat", "dog", "house", "tree"),
    *("river", "sun", "moon", "road", "glass", "stone"),
)


@dataclass
class Answer:
    """A streamed chat, as far as it came. `error`: the error with which it ended, if it did."""

    reasoning: str = ""
    content: str = ""
    finish: str | None = None
    usage: dict[str, Any] | None = None
    error: str | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def text(self) -> tuple[str, str, str | None]:
        """The part that must be the same whatever happens to the workers."""
        return self.reasoning, self.content, self.finish


def words(count: int, seed: object) -> str:
    """Random words."""
    draw = random.Random(str(seed))
    return " ".join(draw.choice(WORDS) for _ in range(count))


def picture_url(seed: int, width: int = 120, height: int = 90) -> str:
    """A small drawing as a data: URL."""
    draw = random.Random(seed)
    image = Image.new("RGB", (width, height), (draw.randrange(256), 200, draw.randrange(256)))
    pen = ImageDraw.Draw(image)
    for _ in range(5):
        x, y = draw.randrange(width), draw.randrange(height)
        pen.rectangle((x, y, x + 20, y + 15), fill=(draw.randrange(256), draw.randrange(256), 40))
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def chat(
    seed: int, *, num_words: int = 40, images: int = 0, max_tokens: int = 120, salt: str = "", **fields: Any
) -> dict[str, Any]:
    """A request whose answer depends only on its arguments; every other one samples."""
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": picture_url(seed * 10 + place)}} for place in range(images)
    ]
    content.append({"type": "text", "text": words(num_words, seed)})
    return {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens,
        "temperature": 0 if seed % 2 else 1,
        "seed": seed,
        "ignore_eos": True,
        "cache_salt": salt,
        **fields,
    }


def mixture(count: int, first_seed: int = 1, **fields: Any) -> list[dict[str, Any]]:
    """Short and long prompts, with and without images."""
    kinds = ({}, {"num_words": 150}, {"images": 1}, {"num_words": 450}, {"images": 2, "num_words": 100})
    return [chat(first_seed + i, **{**kinds[i % len(kinds)], **fields}) for i in range(count)]


class Traffic:
    """Sends requests to one gateway and streams every answer."""

    def __init__(self, base_url: str) -> None:
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.AsyncClient(base_url=base_url, timeout=240.0, limits=limits, trust_env=False)

    async def __aenter__(self) -> Traffic:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask(self, body: dict[str, Any], answer: Answer | None = None) -> Answer:
        """Sends one request and reads its answer to the end."""
        answer = answer or Answer()
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        async with self._http.stream("POST", "/v1/chat/completions", json=asked) as response:
            if response.status_code != 200:
                answer.error = f"{response.status_code}: {(await response.aread()).decode()}"
            else:
                async for line in response.aiter_lines():
                    self._take(line, answer)
        answer.begun.set()
        if answer.finish is None and answer.error is None:
            answer.error = "the stream ended without a finish reason"
        return answer

    async def ask_all(self, bodies: Sequence[dict[str, Any]]) -> list[Answer]:
        """Sends all requests at once."""
        return await asyncio.gather(*(self.ask(body) for body in bodies))

    async def ask_through(
        self,
        early: Sequence[dict[str, Any]],
        late: Sequence[dict[str, Any]],
        disturb: Callable[[], object],
        **fields: Any,
    ) -> list[Answer]:
        """Calls `disturb` when all of `early` stream tokens and `late` have just been sent."""
        answers = [Answer() for _ in early]
        asking = [
            asyncio.create_task(self.ask(body | fields, answer))
            for body, answer in zip(early, answers, strict=True)
        ]
        await asyncio.gather(*(answer.begun.wait() for answer in answers))
        asking += [asyncio.create_task(self.ask(body | fields)) for body in late]
        await asyncio.sleep(_ON_THE_WAY_S)  # nothing shows a client how far a request without tokens is
        await asyncio.to_thread(disturb)
        return await asyncio.gather(*asking)

    @staticmethod
    def _take(line: str, answer: Answer) -> None:
        if not line.startswith("data: {"):
            return
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            answer.error = json.dumps(event["error"])
        answer.usage = event.get("usage") or answer.usage
        for choice in event.get("choices", ()):
            delta = choice["delta"]
            answer.reasoning += delta.get("reasoning_content") or ""
            answer.content += delta.get("content") or ""
            answer.finish = choice["finish_reason"] or answer.finish
            if answer.reasoning or answer.content:
                answer.begun.set()
