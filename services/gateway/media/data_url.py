"""`data:` URLs, read as browsers read them (WHATWG Fetch, "data: URL processor")."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from services.common.errors import InvalidRequest, UnsupportedValue

_SCHEME = "data:"
_BASE64 = re.compile(r";[ ]*base64[ ]*\Z", re.IGNORECASE)
# What URLs lose at their ends, and base64 anywhere.
_CONTROLS_AND_SPACE = "".join(map(chr, range(0x21)))
_WHITE_SPACE = b"\t\n\f\r "


def decode_url(url: str, param: str) -> bytes:
    """The bytes in a `data:` URL.

    The scheme and the word base64 have any case, and any parameters may stand before the latter. Base64 may
    have white space anywhere and lack its padding. Raises UnsupportedValue for other URLs, InvalidRequest for
    damaged ones.
    """
    url = url.strip(_CONTROLS_AND_SPACE)
    if url[: len(_SCHEME)].lower() != _SCHEME:
        raise UnsupportedValue("only URLs of data:, http: and https: are taken", param)
    head, comma, body = url.partition(",")
    if not comma:
        raise InvalidRequest("the data: URL has no comma", param)
    body = body.partition("#")[0]
    if not _BASE64.search(head):
        return unquote_to_bytes(body)
    try:
        return _forgiving_base64(unquote_to_bytes(body))
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"the data: URL is not valid base64: {error}", param) from error


def _forgiving_base64(text: bytes) -> bytes:
    """WHATWG's forgiving-base64 decode. Raises ValueError."""
    text = text.translate(None, _WHITE_SPACE)
    if len(text) % 4 == 0:
        text = text[:-2] if text.endswith(b"==") else text.removesuffix(b"=")
    if b"=" in text:
        raise ValueError("padding in the wrong place")
    if len(text) % 4 == 1:
        raise ValueError("a character is missing or too many")
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
