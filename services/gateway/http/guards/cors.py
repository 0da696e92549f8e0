"""Cross-origin requests: which pages of other sites may use this gateway from a browser."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Message, Scope, Send

from services.common.errors import ConfigError
from services.gateway.http.answers.page import json_page
from services.gateway.http.errors import bad_request

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#,@]+")
_METHODS = b"GET, HEAD, POST, PUT, OPTIONS"
_HEADERS = (
    "authorization", "content-type", "content-encoding", "accept", "x-api-key", "api-key", "x-request-id",
    "user-agent", "http-referer", "x-title",
)  # fmt: skip
_FAMILIES = ("anthropic-", "openai-", "x-stainless-")
_EXPOSED = b"x-request-id, request-id, retry-after, perigee-ignored"
_MAX_AGE_S = b"600"
_VARY = (b"vary", b"Origin")
_VARY_PREFLIGHT = (b"vary", b"Access-Control-Request-Method, Access-Control-Request-Headers")


class Cors:
    """`origins`: whose pages may read answers: `scheme://host[:port]` each, or `*` alone for any.

    Without origins nothing is added to answers, and a preflight request is like any other. Cookies are never
    allowed; there are none.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        """Raises ConfigError for what is no origin."""
        self._any = "*" in origins
        if self._any and len(origins) > 1:
            raise ConfigError("cors_origins: * allows every origin; give nothing beside it")
        for origin in () if self._any else origins:
            if not _ORIGIN.fullmatch(origin.lower()):
                raise ConfigError(f"cors_origins: {origin!r} is no origin; write scheme://host[:port], or *")
        self._origins = frozenset(origin.lower() for origin in origins)

    def answering(self, scope: Scope, send: Send) -> Send:
        """A `send` that adds what lets the request's page read the answer."""
        if not self._origins:
            return send
        fields = [_VARY]
        if (allowed := self._allowed(scope)) is not None:
            fields += [
                (b"access-control-allow-origin", allowed),
                (b"access-control-expose-headers", _EXPOSED),
            ]

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *fields]}
            await send(message)

        return add

    def preflight(self, scope: Scope) -> Response | None:
        """The answer to a browser's question whether it may send a request; None: this is no such question.

        To be sent through `answering`.
        """
        if not self._origins or scope["method"] != "OPTIONS":
            return None
        origin, method = _header(scope, b"origin"), _header(scope, b"access-control-request-method")
        if origin is None or method is None:
            return None
        if self._allowed(scope) is None:
            shown = origin[:200].decode("latin-1")
            message = f"origin {shown!r} may not use this gateway; --cors-origins lists those that may"
            return json_page(bad_request(message, "origin_not_allowed"), 403)
        answer = Response(status_code=204)
        answer.raw_headers = [
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _allowed_headers(scope)),
            (b"access-control-max-age", _MAX_AGE_S),
            _VARY_PREFLIGHT,
        ]
        return answer

    def _allowed(self, scope: Scope) -> bytes | None:
        """What to answer as the origin that may read; None: the request's may not, or it names none."""
        origin = _header(scope, b"origin")
        if origin is None:
            return None
        if self._any:
            return b"*"
        return origin if origin.decode("latin-1").lower() in self._origins else None


def _allowed_headers(scope: Scope) -> bytes:
    """Returns the requested headers that may be sent; if none were requested, all that have a name."""
    asked = _header(scope, b"access-control-request-headers")
    if asked is None:
        return ", ".join(_HEADERS).encode()
    names = [name.strip().lower() for name in asked.decode("latin-1").split(",")]
    return ", ".join(name for name in names if name in _HEADERS or name.startswith(_FAMILIES)).encode(
        "latin-1"
    )


def _header(scope: Scope, key: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == key), None)
