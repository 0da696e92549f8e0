"""One submitted request, whose tokens arrive over the session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from perigee.v1 import scores_pb2
from services.common.errors import PerigeeError
from services.gateway.workers.circuit import Circuit
from services.gateway.workers.stream.inbox import Inbox
from services.gateway.workers.stream.prompt_scores import PromptScores
from services.gateway.workers.stream.token_delta import TokenDelta

Shortcut: TypeAlias = Callable[[int, float], bool]
"""Takes a token with the time.monotonic() of its arrival; returns False if it does not take it."""
StreamInbox: TypeAlias = "Inbox[tuple[TokenStream, TokenDelta | PerigeeError]]"
"""Collects the deltas and failures of several streams, each with its stream."""
ACCEPTED = TokenDelta()
"""In an inbox: not a delta, but that the worker no longer refuses the request."""
NO_SHORTCUTS: Mapping[int, Shortcut] = MappingProxyType({})


class TokenStream:
    """Puts what the session delivers into an inbox that may serve several streams. Event loop only.

    The request's token limit bounds the number of items. `close` cancels the request at the worker unless
    every choice has finished; idempotent. `shortcuts`, by choice: functions offered each token that comes
    while the inbox is idle; a token that the shortcut does not take goes into the inbox. `last_seen_at`:
    time.monotonic() of the worker's last sign of the request; set here for tokens of shortcuts, by the
    session for requests that wait, else by the reader of the inbox. `scores`: where the scores of the prompt
    go; None: none are asked for. `circuit`: the worker's.
    """

    def __init__(
        self,
        handle: int,
        worker: str,
        choices: int,
        inbox: StreamInbox,
        on_close: Callable[[TokenStream], None],
    ) -> None:
        """`worker`: the address of the decode worker."""
        self.handle = handle
        self.worker = worker
        self._unfinished = choices
        self._inbox = inbox
        self._on_close = on_close
        self._failed = False
        self.shortcuts = NO_SHORTCUTS
        self.last_seen_at = 0.0
        self.scores: PromptScores | None = None
        self.circuit: Circuit | None = None

    @property
    def finished(self) -> bool:
        """True once the worker has finished every choice, so that nothing is left to cancel."""
        return self._unfinished <= 0

    def put(self, delta: TokenDelta) -> None:
        """Called by the session."""
        if delta.finish_reason:
            self._unfinished -= 1
        self._inbox.put((self, delta))

    def put_token(self, choice: int, token_id: int, now: float) -> None:
        """Called by the session: one token and nothing else, come at that time.monotonic()."""
        if self._inbox.idle:
            shortcut = self.shortcuts.get(choice)
            if shortcut is not None and shortcut(token_id, now):
                self.last_seen_at = now
                return
        self.put_late_token(choice, token_id)

    def put_late_token(self, choice: int, token_id: int) -> None:
        """Does what `put_token` does, without shortcuts."""
        self._inbox.put((self, TokenDelta(choice, (token_id,))))

    def put_scores(self, message: scores_pb2.PromptScores) -> None:
        """Called by the session."""
        if self.scores is None:
            return
        try:
            self.scores.take(message)
        except PerigeeError as error:
            self.fail(error)

    def accept(self) -> None:
        """Called by the session: the worker no longer refuses the request."""
        self._inbox.put((self, ACCEPTED))

    def fail(self, error: PerigeeError) -> None:
        """Called by the session; the first failure counts, and none does that comes after all is finished."""
        if not self._failed and not self.finished:
            self._failed = True
            self._inbox.put((self, error))

    def close(self) -> None:
        self._on_close(self)
