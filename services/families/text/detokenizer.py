"""Token ids to text as they come, without ever cutting a character in half."""

from __future__ import annotations

import codecs
from collections.abc import Container

from services.families.text.vocabulary import Vocabulary

_UTF8 = codecs.getincrementaldecoder("utf-8")


class Detokenizer:
    """One text. The pieces it returns join to what decoding all ids at once would give, however they come.

    `hidden`: ids that give no text; by default those flagged special by the checkpoint's configuration (the
    think and tool markers are not).
    """

    def __init__(self, vocabulary: Vocabulary, hidden: Container[int] | None = None) -> None:
        self._vocabulary = vocabulary
        self._hidden = vocabulary.flagged_ids if hidden is None else hidden
        self._decoder: codecs.IncrementalDecoder | None = None  # few texts cut a character
        self._inside = False

    def feed(self, token_id: int) -> str:
        """The text that is certain now; bytes of an unfinished character wait for the next id.

        Raises InvalidRequest for an id outside the vocabulary.
        """
        if token_id in self._hidden:
            return ""
        if not self._inside and (text := self._vocabulary.whole_text(token_id)):
            return text
        if self._decoder is None:
            self._decoder = _UTF8(errors="replace")
        text = self._decoder.decode(self._vocabulary.token_bytes(token_id))
        self._inside = bool(self._decoder.getstate()[0])
        return text

    @property
    def inside(self) -> bool:
        """Whether a character has begun that is not finished yet."""
        return self._inside

    def flush(self) -> str:
        """At the end: what is left of an unfinished character, as U+FFFD. The next id begins a new text."""
        self._inside = False
        return "" if self._decoder is None else self._decoder.decode(b"", final=True)
