"""Decodes JSON bodies; errors name the field as the caller spelt it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from services.common.errors import InvalidRequest
from services.gateway.pipeline.prompt.json_counts import check_counts

# msgspec ends its messages with the path of the offending value: " - at `$.messages[0].role`".
_PATH = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`")
_THREAD_BYTES = 1 << 17

Body = TypeVar("Body", bound=msgspec.Struct)
Result = TypeVar("Result")


class BodyDecoder(Generic[Body]):
    """Decodes bodies of one schema, a Struct; one per endpoint, so that the schema is compiled once."""

    def __init__(self, schema: type[Body]) -> None:
        self._decoder = msgspec.json.Decoder(schema)

    def decode(self, body: bytes) -> Body:
        """Raises InvalidRequest: malformed JSON or too much, a wrong type or a missing field (`param`)."""
        check_counts(body)
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise _named(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"the body is not valid JSON: {error}") from error


async def in_thread_if_long(function: Callable[[bytes], Result], body: bytes) -> Result:
    """Applies `function` to a body, in a thread if the body is so long that a thread hop costs less."""
    if len(body) < _THREAD_BYTES:
        return function(body)
    return await asyncio.to_thread(function, body)


def _named(message: str) -> InvalidRequest:
    path = ""
    found = _PATH.search(message)
    if found:
        path = found["path"]
        message = message[: found.start()]
    missing = _MISSING.match(message)
    if missing:
        path = f"{path}.{missing['field']}" if path else missing["field"]
    text = f"{path}: {message}" if path else message
    return InvalidRequest(text, path or None)
