"""Bytes to a typed body; what is wrong with them is named as the caller spelt it."""

from __future__ import annotations

import re

import msgspec

from services.common.errors import InvalidRequest
from services.gateway.http.schema import ChatBody

# msgspec ends its messages with the path of the offending value: " - at `$.messages[0].role`".
_PATH = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`")


class ChatBodyDecoder:
    """Decodes chat bodies; one per gateway, so that the schema is compiled once."""

    def __init__(self) -> None:
        self._decoder = msgspec.json.Decoder(ChatBody)

    def decode(self, body: bytes) -> ChatBody:
        """Raises InvalidRequest: malformed JSON, a wrong type or a missing field (`param` names it)."""
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise _named(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"the body is not valid JSON: {error}") from error


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
