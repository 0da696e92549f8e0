"""Prompts of a given length."""

from __future__ import annotations

import random
import struct
import zlib
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from services.cli.bench.workload.ask import Ask, Message, Turns
from services.cli.bench.workload.lengths import LengthDraws
from services.cli.bench.workload.scenario import Scenario

# Ids that every vocabulary has, none of them a control token in any known one.
_IDS = range(10, 1000)
_WORDS = (
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school",
    "state", "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week",
    "company", "system", "program", "question", "work", "government", "number", "night", "point", "home",
    "water", "room", "mother", "area", "money", "story", "fact", "month", "lot", "right", "study", "book",
    "eye", "job", "word", "business", "issue", "side", "kind", "head", "house", "service", "friend",
    "father", "power", "hour", "game", "line", "end", "member", "law", "car", "city", "community", "name",
    "team", "minute", "idea",
)  # fmt: skip
_BLOCK = 14  # pixels: random blocks of this size compress, unlike noise, and no two images are alike


@dataclass(frozen=True)
class TextMaker:
    """Makes texts of about a given number of tokens. `tokens_per_word`: measured at the endpoint; `overhead`:
    tokens that a chat of one message has beside its text.
    """

    tokens_per_word: float = 1.3
    overhead: float = 0.0

    def text(self, tokens: int, seed: str) -> str:
        """Returns a text of random words of about so many tokens, at least one word."""
        dice = random.Random(seed)
        return " ".join(dice.choices(_WORDS, k=max(1, round(tokens / self.tokens_per_word))))

    def message(self, tokens: int, seed: str) -> str:
        """Returns the text of a chat's only message, such that the prompt has about so many tokens."""
        return self.text(max(1, round(tokens - self.overhead)), seed)


@dataclass(frozen=True)
class OneRequest:
    """A session of one request."""

    ask: Ask

    def turns(self) -> Turns:
        """Yields the request."""
        yield self.ask


def random_sessions(scenario: Scenario, seed: int, salt: str, texts: TextMaker | None) -> list[OneRequest]:
    """Returns the requests of a scenario without rounds: random token ids, or chats if `texts` makes them.

    `seed`: of the lengths; `salt`: of what the prompts say. No prompt begins as another one does, nor as one
    with another salt: an endpoint that has cached them finds nothing.
    """
    draws = LengthDraws(seed)
    inputs = draws.lengths(scenario.input_tokens, scenario.least_ratio, scenario.requests)
    outputs = draws.lengths(scenario.output_tokens, scenario.least_ratio, scenario.requests)
    sessions = []
    for index, (length, most) in enumerate(zip(inputs, outputs, strict=True)):
        own = f"{salt} {index}"
        if texts is None:
            ask = Ask(most, length, token_ids=random_ids(length, own))
        else:
            images = [
                image_url(scenario.image_pixels, f"{own} {number}") for number in range(scenario.images)
            ]
            ask = Ask(most, length, messages=[user_turn(texts.message(length, own), images)])
        sessions.append(OneRequest(ask))
    return sessions


def random_ids(count: int, seed: str) -> list[int]:
    """Returns `count` token ids."""
    return random.Random(seed).choices(_IDS, k=count)


def user_turn(text: str, images: Sequence[str] = ()) -> Message:
    """Returns a user's message; `images`: URLs, shown before the text."""
    if not images:
        return {"role": "user", "content": text}
    parts: list[Message] = [{"type": "image_url", "image_url": {"url": url}} for url in images]
    return {"role": "user", "content": [*parts, {"type": "text", "text": text}]}


def image_url(pixels: int, seed: str) -> str:
    """Returns a PNG of random coloured blocks, `pixels` wide and high, as a `data:` URL."""
    dice = random.Random(seed)
    across = -(-pixels // _BLOCK)
    rows = bytearray()
    for _ in range(across):
        blocks = b"".join(dice.randbytes(3) * _BLOCK for _ in range(across))[: 3 * pixels]
        rows += (b"\0" + blocks) * _BLOCK
    head = struct.pack(">IIBBBBB", pixels, pixels, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(rows[: pixels * (3 * pixels + 1)]), 1)
    chunks = ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)
    return "data:image/png;base64," + b64encode(png).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
