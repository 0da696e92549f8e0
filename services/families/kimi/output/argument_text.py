"""The arguments of one call, as their tokens come."""

from __future__ import annotations

from services.families.text.detokenizer import Detokenizer
from services.families.text.vocabulary import Vocabulary


class ArgumentText:
    """Text without the white space at its ends. No stop string is looked for in it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._detokenizer = Detokenizer(vocabulary)
        self._taken: list[str] = []
        self._news: list[str] = []
        # White space that may be the text's end.
        self._space = ""

    def feed(self, token_id: int) -> bool:
        """Adds a token's text; False: it never ends an output."""
        self._add(self._detokenizer.feed(token_id))
        return False

    def end(self) -> None:
        """The text is over: half a character becomes U+FFFD."""
        self._add(self._detokenizer.flush())

    def take(self) -> str:
        """The text that became certain since the last time."""
        news = "".join(self._news)
        if news:
            self._news.clear()
            self._taken.append(news)
        return news

    @property
    def whole(self) -> str:
        """All text that is certain, taken or not."""
        return "".join((*self._taken, *self._news))

    def _add(self, text: str) -> None:
        if not (self._taken or self._news):
            text = text.lstrip()
        kept = text.rstrip()
        if kept:
            self._news.append(self._space + kept)
            self._space = ""
        self._space += text[len(kept) :]
