"""Which of the model's output tokens are reasoning and which are the answer, decided by token ids alone."""

from __future__ import annotations

from enum import Enum, auto

from services.common.kimi.special import SpecialTokens


class Channel(Enum):
    """Where a token's text belongs."""

    REASONING = auto()
    CONTENT = auto()


class ReasoningSplitter:
    """Fed with one answer's tokens in order, the ones that end it left out.

    With thinking on, the output begins inside reasoning, because the prompt ends with an open `<think>`. The
    first `</think>` ends it; so does the first tool section, which the model sometimes begins without closing
    its reasoning, and whose marker is content. Whichever comes first counts, streamed or not. `<think>` at
    the very beginning and `</think>` anywhere are no text; white space is left as it is.
    """

    def __init__(self, special: SpecialTokens, *, thinking: bool) -> None:
        self._special = special
        self._channel = Channel.REASONING if thinking else Channel.CONTENT
        self._at_start = True

    @property
    def channel(self) -> Channel:
        """Where the next ordinary token belongs."""
        return self._channel

    def feed(self, token_id: int) -> Channel | None:
        """Where this token's text belongs; None for a marker that has none."""
        if token_id == self._special.think and self._at_start:
            return None
        self._at_start = False
        if token_id == self._special.end_think:
            self._channel = Channel.CONTENT
            return None
        if token_id == self._special.tool_calls_section_begin:
            self._channel = Channel.CONTENT
        return self._channel
