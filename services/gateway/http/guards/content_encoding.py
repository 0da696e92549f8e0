"""Bodies as their Content-Encoding has them: as they are, or compressed with gzip."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

from services.common.errors import InvalidRequest
from services.gateway.http.errors import UnknownEncoding

TAKEN = ("gzip", "identity")
_GZIP = frozenset({"gzip", "x-gzip"})
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
# Most bytes that one step decompresses; between two steps other requests have their turn.
_STEP = 1 << 18
# A member without content costs time and counts for no bytes.
_MOST_MEMBERS = 1024


class Decoder(Protocol):
    """Takes a body piece by piece."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes of the body decode to, in bounded pieces. Raises InvalidRequest."""

    def end(self) -> None:
        """The body has ended. Raises InvalidRequest if something of it is missing."""


def decoder_of(headers: Iterable[tuple[bytes, bytes]]) -> Decoder:
    """The decoder of a body with these headers. Raises UnknownEncoding for all but gzip and identity."""
    given = [
        coding.strip().lower()
        for name, value in headers
        if name == b"content-encoding"
        for coding in value.decode("latin-1").split(",")
    ]
    codings = [coding for coding in given if coding not in ("", "identity")]
    if not codings:
        return Identity()
    if len(codings) > 1 or codings[0] not in _GZIP:
        raise UnknownEncoding(
            f"content-encoding {', '.join(codings)!r} is not supported; a body may be {' or '.join(TAKEN)}"
        )
    return Gzip()


class Identity:
    """Returns the data unchanged."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """See Decoder."""
        yield data

    def end(self) -> None:
        """See Decoder."""


class Gzip:
    """One or more gzip members. A body without any is empty."""

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None
        self._members = 0

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """See Decoder."""
        while data:
            member = self._member or self._next_member()
            try:
                yield member.decompress(data, _STEP)
            except zlib.error as error:
                raise InvalidRequest(f"the body is not the gzip that its headers name: {error}") from error
            if member.eof:
                data, self._member = member.unused_data, None
            else:
                data = member.unconsumed_tail

    def end(self) -> None:
        """See Decoder."""
        if self._member is not None:
            raise InvalidRequest("the gzip body ends before it is whole")

    def _next_member(self) -> zlib._Decompress:
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise InvalidRequest(f"the gzip body has more than {_MOST_MEMBERS} members")
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        return self._member
