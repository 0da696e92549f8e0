"""One text of an answer, as its tokens come."""

from __future__ import annotations

from collections.abc import Container, Sequence

from services.families.text.detokenizer import Detokenizer
from services.families.text.stop import StopMatcher
from services.families.text.vocabulary import Vocabulary


class TextLane:
    """Detokenized and watched for stop strings; what is certain waits to be taken.

    `num_characters`: of all tokens so far, certain or not.
    """

    def __init__(
        self, vocabulary: Vocabulary, stop: Sequence[str], hidden: Container[int] | None = None
    ) -> None:
        """`hidden`: as the Detokenizer has it."""
        self._detokenizer = Detokenizer(vocabulary, hidden)
        self._matcher = StopMatcher(stop) if any(stop) else None
        self._certain: list[str] = []
        self.num_characters = 0

    def watch(self, stop: Sequence[str]) -> None:
        """Looks for stop strings, these alone, in what comes from here on."""
        self._matcher = StopMatcher(stop) if any(stop) else None

    def feed(self, token_id: int) -> bool:
        """Adds a token's text; whether a stop string, which is left out, ended it."""
        return self._add(self._detokenizer.feed(token_id))

    @property
    def free(self) -> bool:
        """Whether whole characters would be certain at once, with nothing that waits before them."""
        return self._matcher is None and not self._certain and not self._detokenizer.inside

    @property
    def matched_stop(self) -> str:
        """The stop string that ended it; empty: none did."""
        return "" if self._matcher is None else self._matcher.matched

    @property
    def inside(self) -> bool:
        """Whether a character has begun that is not finished yet."""
        return self._detokenizer.inside

    def end(self) -> bool:
        """At the end: half a character becomes U+FFFD, and what might have become a stop string is text.

        Whether the former completed a stop string. The next token begins a new text.
        """
        if self._add(self._detokenizer.flush()):
            return True
        if self._matcher is not None:
            self._certain.append(self._matcher.flush())
        return False

    def take(self) -> str:
        """The text that became certain since the last time."""
        if not self._certain:
            return ""
        certain, self._certain = self._certain, []
        return certain[0] if len(certain) == 1 else "".join(certain)

    def _add(self, text: str) -> bool:
        if not text:
            return False
        self.num_characters += len(text)
        if self._matcher is None:
            self._certain.append(text)
            return False
        certain, stopped = self._matcher.feed(text)
        self._certain.append(certain)
        return stopped
