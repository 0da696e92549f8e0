"""One HTTP answer: a JSON document, or server-sent events; and in both cases a way to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import orjson
from starlette.types import Send

from services.common.errors import PerigeeError
from services.gateway.http.errors import answer_of


class Reply:
    """Writes to the client. `started` says whether the status is already sent, so that only an event can tell
    of a failure."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False
        self._behind: asyncio.Future[None] | None = None

    async def json(
        self,
        document: Mapping[str, Any] | Sequence[Any],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The whole answer."""
        body = orjson.dumps(document)
        await self._head(status, "application/json", {"content-length": str(len(body)), **(headers or {})})
        await self._send({"type": "http.response.body", "body": body})

    async def start_events(self) -> None:
        """Status and headers of an event stream."""
        await self._head(200, "text/event-stream; charset=utf-8", {"cache-control": "no-cache"})

    async def event(self, document: bytes | dict[str, Any]) -> None:
        """One `data:` line; bytes are JSON already."""
        data = document if isinstance(document, bytes) else orjson.dumps(document)
        await self._data(data, more=True)

    @property
    def ready(self) -> bool:
        """Whether events can go out, and the client has room for more."""
        return self.started and (self._behind is None or self._behind.done())

    def event_now(self, document: bytes) -> None:
        """As `event`, for one who cannot wait; only when `ready`. To a slow client it goes out later."""
        steps = self._send(_event(document, more=True)).__await__()
        try:
            waits_for = next(steps)
        except StopIteration:
            return
        self._behind = asyncio.ensure_future(_Begun(waits_for, steps))

    async def end_events(self) -> None:
        """OpenAI's end mark."""
        await self._data(b"[DONE]", more=False)

    async def fail(self, error: PerigeeError) -> None:
        """The error object, as the answer or, mid-stream, as the last event."""
        answer = answer_of(error)
        if self.started:
            await self._data(orjson.dumps(answer.body), more=False)
        else:
            await self.json(answer.body, answer.status, answer.headers)

    async def _head(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.started = True
        fields = {"content-type": content_type, **headers}
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def _data(self, data: bytes, *, more: bool) -> None:
        behind, self._behind = self._behind, None
        if behind is not None:
            await behind
        await self._send(_event(data, more=more))


class _Begun:
    """The rest of something that was awaited up to what it first waits for."""

    def __init__(self, waits_for: Any, steps: Generator[Any, Any, None]) -> None:
        self._waits_for = waits_for
        self._steps = steps

    def __await__(self) -> Generator[Any, Any, None]:
        yield self._waits_for
        yield from self._steps


def _event(data: bytes, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": more}
