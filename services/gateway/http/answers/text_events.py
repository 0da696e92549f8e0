"""Events that differ in the text of one token alone."""

from __future__ import annotations

from collections.abc import Mapping

from services.families.tokenizer import Tokenizer
from services.gateway.http.answers.one_line import one_line
from services.gateway.http.connection.streaming_protocol import BodyChunks
from services.gateway.http.shapes.base import encode


class TokenTexts(dict[int, bytes]):
    """By token id, its text as a JSON string if it is whole characters, else nothing; made when asked for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __missing__(self, token_id: int) -> bytes:
        text = self._tokenizer.whole_text(token_id)
        encoded = one_line(encode(text)) if text else b""
        # Ids come from workers: those of no token are not to fill the memory.
        if 0 <= token_id < self._tokenizer.vocab_size:
            self[token_id] = encoded
        return encoded


class TextEvents:
    """Writes them to one client, as long as it has room."""

    def __init__(self, chunks: BodyChunks, texts: Mapping[int, bytes], before: bytes, after: bytes) -> None:
        """`before`, `after`: all of an event but the text."""
        self._chunks = chunks
        self._texts = texts
        self._before = before
        self._after = after

    def write(self, token_id: int) -> bool:
        """Whether the token's event is written: not where there is no room or its text is none by itself."""
        text = self._texts[token_id]
        if not text or not self._chunks.open:
            return False
        self._chunks.write(b"%b%b%b" % (self._before, text, self._after))
        return True
