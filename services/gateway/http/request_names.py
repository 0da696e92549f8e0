"""Request ids of the REST door: read from a header or generated, and echoed."""

from __future__ import annotations

from starlette.types import Message, Scope, Send

from services.gateway.http.messages.protocol import speaks_messages
from services.gateway.request_record import HEADER, request_name

_KEY = HEADER.encode()
_SCOPE = "perigee.request_name"


def named(scope: Scope, send: Send) -> Send:
    """Stores the name of an HTTP request in its scope; returns a `send` that adds it to the answer."""
    given = next((value.decode("latin-1") for key, value in scope["headers"] if key == _KEY), None)
    name = scope[_SCOPE] = request_name(given)
    echoed = [(_KEY, name.encode())]
    if speaks_messages(scope):
        echoed.append((b"request-id", name.encode()))

    async def echo(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *echoed]}
        await send(message)

    return echo


def name_of(scope: Scope) -> str:
    """The name that `named` stored."""
    name: str = scope[_SCOPE]
    return name
