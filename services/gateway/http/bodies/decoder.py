"""Decodes JSON bodies; errors name the field as the caller spelt it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from services.common.errors import InvalidRequest
from services.gateway.http.bodies.whole_numbers import decode_whole_floats
from services.gateway.pipeline.prompt.json_counts import check_counts
from services.gateway.strict_object import named_error

_THREAD_BYTES = 1 << 17

Body = TypeVar("Body", bound=msgspec.Struct)
Result = TypeVar("Result")


class BodyDecoder(Generic[Body]):
    """Decodes bodies of one schema, a Struct; one per endpoint, so that the schema is compiled once."""

    def __init__(self, schema: type[Body]) -> None:
        self._schema = schema
        self._decoder = msgspec.json.Decoder(schema)

    def decode(self, body: bytes) -> Body:
        """Raises InvalidRequest: malformed JSON or too much, a wrong type or a missing field (`param`).

        Where a whole number is expected, a float that is whole, such as 16.0, counts as it.
        """
        check_counts(body)
        try:
            return self._decode(body)
        except msgspec.ValidationError as error:
            raise named_error(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"the body is not valid JSON: {error}") from error

    def _decode(self, body: bytes) -> Body:
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            decoded: Body = decode_whole_floats(body, self._schema, error)
            return decoded


async def in_thread_if_long(function: Callable[[bytes], Result], body: bytes) -> Result:
    """Applies `function` to a body, in a thread if the body is so long that a thread hop costs less."""
    if len(body) < _THREAD_BYTES:
        return function(body)
    return await asyncio.to_thread(function, body)
