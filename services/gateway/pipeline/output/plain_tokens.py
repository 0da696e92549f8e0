"""The short way of one choice's tokens from the session to the client."""

from __future__ import annotations

from collections.abc import Callable

from services.gateway.admission import Ticket
from services.gateway.pipeline.output.choice import ChoiceDecoder


class PlainTokens:
    """For tokens that are text and nothing else; nearly all are.

    Does for one what TokenSource, Generation and ChoiceDecoder do for a delta on its way, in a few calls: a
    gateway that has all streams of an engine has some microseconds for each of their tokens.
    """

    def __init__(
        self, choice: ChoiceDecoder, output: list[int], ticket: Ticket, show: Callable[[int], bool]
    ) -> None:
        """`choice` is plain; `output`: its tokens so far; `show`: as Sink.writer gives it."""
        self._choice = choice
        self._output = output
        self._ticket = ticket
        self._show = show

    def take(self, token_id: int, now: float) -> bool:
        """See Shortcut."""
        if not self._show(token_id):
            return False
        self._output.append(token_id)
        self._choice.count_plain()
        self._ticket.tokens(self._choice.index, now)
        return True
