"""One submitted request, as its tokens come down the session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from perigee.v1 import decode_pb2
from services.common.errors import PerigeeError
from services.gateway.workers.inbox import Inbox

Shortcut: TypeAlias = Callable[[int, float], bool]
"""Given a token and the time.monotonic() of its coming, takes it (True) or does not."""
StreamInbox: TypeAlias = "Inbox[tuple[TokenStream, decode_pb2.SequenceDelta | PerigeeError]]"
"""Where several streams put what their workers send, each item with its stream."""
NO_SHORTCUTS: Mapping[int, Shortcut] = MappingProxyType({})


class TokenStream:
    """Puts what the session delivers into an inbox that may serve several streams. Event loop only.

    What it puts is bounded by the request's token limit. `close` tells the worker to stop unless every choice
    has finished; idempotent. `shortcuts`, by choice: where a token goes that comes while the inbox is idle;
    only what it does not take is put into the inbox. `heard_at`: time.monotonic() of the last news; set here
    where a shortcut took them, by the session where they are that the request waits, else by whoever fetches
    them.
    """

    def __init__(
        self,
        handle: int,
        worker: str,
        choices: int,
        news: StreamInbox,
        on_close: Callable[[TokenStream], None],
    ) -> None:
        """`worker`: the address of the decode worker."""
        self.handle = handle
        self.worker = worker
        self._unfinished = choices
        self._news = news
        self._on_close = on_close
        self._failed = False
        self.shortcuts = NO_SHORTCUTS
        self.heard_at = 0.0

    @property
    def finished(self) -> bool:
        """Whether the worker has finished every choice, so that there is nothing left to cancel."""
        return self._unfinished <= 0

    def put(self, delta: decode_pb2.SequenceDelta) -> None:
        """Called by the session."""
        if delta.finish_reason:
            self._unfinished -= 1
        self._news.put((self, delta))

    def put_token(self, choice: int, token_id: int, now: float) -> None:
        """Called by the session: one token and nothing else, come at that time.monotonic()."""
        if self._news.idle:
            shortcut = self.shortcuts.get(choice)
            if shortcut is not None and shortcut(token_id, now):
                self.heard_at = now
                return
        self.put_late_token(choice, token_id)

    def put_late_token(self, choice: int, token_id: int) -> None:
        """As `put_token`, but not by a shortcut."""
        delta = decode_pb2.SequenceDelta(handle=self.handle, choice=choice, token_ids=(token_id,))
        self._news.put((self, delta))

    def fail(self, error: PerigeeError) -> None:
        """Called by the session; the first failure counts, and none does that comes after all is finished."""
        if not self._failed and not self.finished:
            self._failed = True
            self._news.put((self, error))

    def close(self) -> None:
        self._on_close(self)
