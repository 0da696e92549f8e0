"""One HTTP answer: a JSON document, or server-sent events; and in both cases a way to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from starlette.types import Send

from services.common.errors import PerigeeError
from services.gateway.http.answers.keep_alive import KeepAlive
from services.gateway.http.answers.one_line import one_line
from services.gateway.http.answers.reply_form import OPENAI, ReplyForm
from services.gateway.http.answers.text_events import TextEvents
from services.gateway.http.connection.streaming_protocol import BodyChunks
from services.gateway.http.shapes.base import AnswerShape, encode, event_name

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
_BEGIN, _END = b"data: ", b"\n\n"
_DONE = b"data: [DONE]\n\n"


class Reply:
    """Writes to the client. `started` says whether the status is already sent, so that only an event can tell
    of a failure; `status`: the one that was sent, or 0; `ended`: whether the end mark of an event stream is.
    """

    def __init__(
        self,
        send: Send,
        keep_alive: KeepAlive,
        chunks: BodyChunks | None = None,
        form: ReplyForm = OPENAI,
        name: str = "",
        asked: Headers = (),
    ) -> None:
        """`keep_alive`: of event streams. `chunks`: what the server offers beside `send`. `form`: the route's
        protocol; `name`, `asked`: the request's name and its headers. `close` must be called in the end.
        """
        self._send = send
        self._form = form
        self._name = name
        self.asked = asked
        self._more_headers: dict[str, str] = {}
        self.keep_alive = keep_alive
        self._chunks = chunks
        self._written = False
        self._living: asyncio.Task[None] | None = None
        self.started = self.ended = False
        self.status = 0

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """The answer will have these too, whatever it is. Call before it has begun."""
        self._more_headers.update(headers)

    async def json(
        self,
        answer: AnswerShape | Sequence[AnswerShape],
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """The whole answer."""
        body = encode(answer)
        await self._head(status, "application/json", {"content-length": str(len(body)), **(headers or {})})
        await self._send({"type": "http.response.body", "body": body})

    async def start_events(self, empty: Callable[[], bytes | AnswerShape]) -> None:
        """Status and headers of an event stream. `empty`: makes an event in which nothing is new, for a time
        when nothing else is sent, if such events keep the stream alive; what it returns is sent.
        """
        await self._head(200, "text/event-stream; charset=utf-8", {"cache-control": "no-cache"})
        if self.keep_alive.kind != "none":
            self._living = asyncio.create_task(self._live(lambda: self._framed(empty())))

    def close(self) -> None:
        """Sends no signs of life any more. Idempotent."""
        if self._living is not None:
            self._living.cancel()

    def text_events(self, texts: Mapping[int, bytes], before: bytes, after: bytes) -> TextEvents | None:
        """Events of `before`, a token's text and `after`, without waiting, while nothing else is sent.

        None before events are started, and where the server offers no such way.
        """
        if not self.started or self._chunks is None:
            return None
        return TextEvents(self._chunks, texts, _BEGIN + one_line(before), one_line(after) + _END)

    async def event(self, answer: bytes | AnswerShape) -> None:
        """One `data:` line; bytes are JSON already. Where the protocol names its events, one `event:` line
        comes before it; then `answer` must be a struct with a tag.
        """
        event = self._framed(answer)
        if self.started and self._chunks is not None and self._chunks.open:
            self._chunks.write(event)
        else:
            await self._body(event, more=True)

    def join_last(self) -> None:
        """Sends the events that follow at once in one piece with the end mark, if the server can."""
        if self._chunks is not None:
            self._chunks.join()

    async def end_events(self, last: AnswerShape | None = None) -> None:
        """The last event; None: OpenAI's end mark. Returns one turn of the event loop after it is written."""
        self.close()
        await self._body(_DONE if last is None else self._framed(last), more=False)
        self.ended = True
        # The caller's clean-up comes next: the last tokens of other answers are written before it.
        await asyncio.sleep(0)

    async def fail(self, error: PerigeeError) -> None:
        """The error object, as the answer or, mid-stream, as the last event."""
        answer = self._form.failure(error, self._name)
        self.close()
        if self.started:
            await self._body(self._framed(answer.body), more=False)
        else:
            await self.json(answer.body, answer.status, answer.headers)

    async def _head(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        self.started, self.status = True, status
        fields = {"content-type": content_type, **headers, **self._more_headers}
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def _live(self, empty_event: Callable[[], bytes]) -> None:
        """Sends a sign of life whenever nothing was sent for half of the time that may be silent."""
        while True:
            self._written = False
            if self._chunks is not None:
                self._chunks.written = False
            await asyncio.sleep(self.keep_alive.seconds / 2)
            if self._written or (self._chunks is not None and self._chunks.written):
                continue
            if self._chunks is None:
                sign = self.keep_alive.sign(empty_event)
                await self._send({"type": "http.response.body", "body": sign, "more_body": True})
            elif self._chunks.open:  # else the client has not read what was sent
                self._chunks.write(self.keep_alive.sign(empty_event))

    async def _body(self, body: bytes, *, more: bool) -> None:
        self._written = True
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def _framed(self, answer: bytes | AnswerShape) -> bytes:
        event = _event(_json(answer))
        if not self._form.names_events or isinstance(answer, bytes):
            return event
        return b"event: %b\n%b" % (event_name(answer), event)


def _json(answer: bytes | AnswerShape) -> bytes:
    return answer if isinstance(answer, bytes) else encode(answer)


def _event(data: bytes) -> bytes:
    return _BEGIN + one_line(data) + _END
