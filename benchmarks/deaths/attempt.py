"""One try of a plain HTTP client to get an answer."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

_RETRYABLE_STATUS = (429, 502, 503)
_RETRYABLE_CODES = ("unavailable", "shutting_down", "overloaded", "rate_limit_exceeded")


@dataclass(frozen=True)
class Attempt:
    """`text`: what came of the answer, all of it if `reason` is empty. `reason`: why there is not all of it.
    `retryable`: the client knows from the end that it may ask again; `retry_after_s`: how much later.
    """

    text: str = ""
    reason: str = ""
    retryable: bool = False
    retry_after_s: float | None = None


async def attempt(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], on_bytes: Callable[[float], None]
) -> Attempt:
    """Asks once and reads the answer to its end. `on_bytes` gets the time of each piece of a good answer."""
    pieces: list[bytes] = []
    try:
        async with client.stream("POST", path, json=body) as answer:
            if answer.status_code != 200:
                return refused(answer.status_code, answer.headers.get("retry-after"), await answer.aread())
            async for piece in answer.aiter_raw():
                on_bytes(time.monotonic())
                pieces.append(piece)
    except httpx.ConnectError:
        return Attempt(reason="connection refused", retryable=True)
    except httpx.TimeoutException:
        return Attempt(_text(b"".join(pieces), body), "no end in time")
    except httpx.TransportError:
        # It may have been computed, but it has no effect beside its answer: to ask again is safe.
        how = "connection lost, part of the answer" if pieces else "connection lost, no answer"
        return Attempt(_text(b"".join(pieces), body), how, retryable=True)
    raw = b"".join(pieces)
    return streamed(raw) if body["stream"] else Attempt(_text(raw, body))


def refused(status: int, retry_after: str | None, raw: bytes) -> Attempt:
    """An answer with an error's status."""
    code = json.loads(raw)["error"].get("code") or "no code"
    pause_s = float(retry_after) if retry_after else None
    told = "" if retry_after else ", no Retry-After"
    return Attempt("", f"{status} {code}{told}", status in _RETRYABLE_STATUS, pause_s)


def streamed(raw: bytes) -> Attempt:
    """The answer of a stream's events; the last one may be an error."""
    text, finished, error = _read(raw)
    if error:
        code = error.get("code") or "no code"
        return Attempt(text, f"stream ended with {code}", code in _RETRYABLE_CODES)
    return Attempt(text) if finished else Attempt(text, "stream without an end", retryable=True)


def _text(raw: bytes, body: dict[str, Any]) -> str:
    if body["stream"]:
        return _read(raw)[0]
    return _said(json.loads(raw)["choices"][0]) if raw else ""


def _read(raw: bytes) -> tuple[str, bool, dict[str, Any]]:
    """Returns the text, whether it has its finish reason, and the error."""
    text, finished, error = "", False, {}
    for line in raw.split(b"\n"):
        if not line.startswith(b"data: {") or not line.endswith(b"}"):
            continue  # the last line may be half
        event = json.loads(line.removeprefix(b"data: "))
        error = event.get("error", error)
        for choice in event.get("choices", ()):
            text += _said(choice)
            finished = finished or choice["finish_reason"] is not None
    return text, finished, error


def _said(choice: dict[str, Any]) -> str:
    """What a choice of an answer, or of a stream's event, says."""
    if "text" in choice:
        return str(choice["text"])
    message = choice.get("delta") or choice.get("message") or {}
    return str(message.get("reasoning_content") or "") + str(message.get("content") or "")
