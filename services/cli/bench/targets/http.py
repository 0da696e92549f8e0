"""An endpoint with OpenAI's API over HTTP."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import msgspec

from services.cli.bench.targets.exchange import LineReader, exchange
from services.cli.bench.targets.target import Address, AskOptions
from services.cli.bench.targets.timeline import Timeline
from services.cli.bench.workload.ask import Ask
from services.common.errors import Unavailable


class HttpTarget:
    """Sends each request on a connection of its own, as SGLang's benchmark does."""

    def __init__(self, address: Address, options: AskOptions) -> None:
        self._address = address
        self._options = options
        self._model = options.model
        self._tls: ssl.SSLContext | None = None
        if address.tls:
            self._tls = ssl.create_default_context(cadata=options.ca.decode() if options.ca else None)

    async def model(self) -> str:
        """Returns the first served model's name. Raises Unavailable."""
        if self._model:
            return self._model
        lines: list[bytes] = []
        where = f"{self._address.scheme}://{self._address.authority}{self._address.path}/v1/models"
        try:
            async with asyncio.timeout(self._options.timeout_s):
                await self._exchange("GET", "/v1/models", b"", lambda line, at: lines.append(line))
            self._model = str(msgspec.json.decode(b"\n".join(lines))["data"][0]["id"])
        except RuntimeError as error:
            raise Unavailable(f"{where}: {_described(error)}") from error
        except OSError as error:
            raise Unavailable(
                f"{where}: {_described(error)}; --target names another endpoint, `make run` starts one"
            ) from error
        except (msgspec.DecodeError, LookupError, TypeError) as error:
            raise Unavailable(f"{where}: the answer names no model; name one with --model") from error
        return self._model

    async def ask(self, ask: Ask) -> Timeline:
        """Streams an answer of /v1/completions for token ids, of /v1/chat/completions for messages."""
        route = "/v1/chat/completions" if ask.messages else "/v1/completions"
        body = msgspec.json.encode(self._body(ask))
        reader = EventReader(Timeline(self._options.clock()))
        timeline = reader.timeline
        try:
            async with asyncio.timeout(self._options.timeout_s):
                await self._exchange("POST", route, body, reader.read)
            reader.check_whole()
        except TimeoutError:
            timeline.error = f"not whole after {self._options.timeout_s:g} s"
        except (OSError, RuntimeError, ValueError, msgspec.DecodeError) as error:
            timeline.error = _described(error)
        if not timeline.end:
            timeline.end = self._options.clock()
        return timeline

    async def close(self) -> None:
        """Does nothing: no connection outlives its request."""

    async def _exchange(self, method: str, route: str, body: bytes, on_line: LineReader) -> None:
        address = self._address
        head = (
            f"{method} {address.path}{route} HTTP/1.1\r\nHost: {address.authority}\r\n"
            f"Accept: */*\r\nConnection: close\r\n"
        )
        if self._options.key:
            head += f"Authorization: Bearer {self._options.key}\r\n"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        request = f"{head}\r\n".encode() + body
        await exchange(address.host, address.port, self._tls, request, on_line, self._options.clock)

    def _body(self, ask: Ask) -> dict[str, Any]:
        options = self._options
        body: dict[str, Any] = {
            "model": self._model,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if options.full_length:
            body["ignore_eos"] = True
        if ask.messages:
            body |= {"messages": ask.messages, "max_completion_tokens": ask.max_tokens}
            if ask.tools:
                body["tools"] = ask.tools
        else:
            body |= {"prompt": ask.token_ids, "max_tokens": ask.max_tokens}
            if options.full_length:
                body["skip_special_tokens"] = False
        return body | options.extra


class EventReader:
    """Reads the events of a streamed answer into a timeline."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._ended = False

    def read(self, line: bytes, at: float) -> None:
        """Reads a line that arrived at a moment. Raises RuntimeError for an event that is an error."""
        if not line:
            return
        self.timeline.end = at
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            self._ended = True
        elif line.startswith((b"data:", b"{")):
            event = msgspec.json.decode(data)
            try:
                self._take(event, at)
            except (AttributeError, LookupError, TypeError) as error:
                raise RuntimeError(f"an event of an unknown form: {data[:200]!r}") from error

    def check_whole(self) -> None:
        """Raises RuntimeError if the stream ended without saying that the answer is whole."""
        if not self._ended and not self.timeline.answer.finish:
            raise RuntimeError("the stream ended in the middle of the answer")

    def _take(self, event: dict[str, Any], at: float) -> None:
        timeline = self.timeline
        if error := event.get("error"):
            message = error.get("message", error) if isinstance(error, dict) else error
            raise RuntimeError(f"an error in the stream: {str(message)[:500]}")
        if usage := event.get("usage"):
            timeline.prompt_tokens = usage.get("prompt_tokens")
            timeline.output_tokens = usage.get("completion_tokens")
            timeline.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            content = choice.get("text") or delta.get("content") or ""
            reasoning = delta.get("reasoning_content") or delta.get("reasoning") or ""
            timeline.add_text(at, content, reasoning)
            for call in delta.get("tool_calls") or ():
                part = call.get("function") or {}
                timeline.add_call(
                    at,
                    call.get("index") or 0,
                    call.get("id") or "",
                    part.get("name") or "",
                    part.get("arguments") or "",
                )
            timeline.answer.finish = choice.get("finish_reason") or timeline.answer.finish


def _described(error: BaseException) -> str:
    return str(error) or type(error).__name__
