"""One submitted request, as its tokens come down the session."""

from __future__ import annotations

from collections.abc import Callable

from perigee.v1 import decode_pb2
from services.common.errors import PerigeeError
from services.gateway.workers.inbox import Inbox


class TokenStream:
    """Puts what the session delivers into an inbox that may serve several streams. Event loop only.

    What it puts is bounded by the request's token limit. `close` tells the worker to stop unless every choice
    has finished; idempotent.
    """

    def __init__(
        self,
        handle: int,
        worker: str,
        choices: int,
        news: Inbox,
        on_close: Callable[[TokenStream], None],
    ) -> None:
        """`worker`: the address of the decode worker."""
        self.handle = handle
        self.worker = worker
        self._unfinished = choices
        self._news = news
        self._on_close = on_close
        self._failed = False

    @property
    def finished(self) -> bool:
        """Whether the worker has finished every choice, so that there is nothing left to cancel."""
        return self._unfinished <= 0

    def put(self, delta: decode_pb2.SequenceDelta) -> None:
        """Called by the session."""
        if delta.finish_reason:
            self._unfinished -= 1
        self._news.put((self, delta))

    def put_token(self, choice: int, token_id: int, *, shortcut: bool = True) -> None:
        """Called by the session: one token and nothing else. `shortcut`: whether it may take that."""
        self._news.put_token(self, choice, token_id, shortcut=shortcut)

    def fail(self, error: PerigeeError) -> None:
        """Called by the session; the first failure counts, and none does that comes after all is finished."""
        if not self._failed and not self.finished:
            self._failed = True
            self._news.put((self, error))

    def close(self) -> None:
        self._on_close(self)
