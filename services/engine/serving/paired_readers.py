"""The readers that are paired with a worker, and the tokens by which they prove who they are."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from services.common.errors import AlreadyPaired, Unavailable

TOKEN_BYTES = 16
_REMEMBERED_READERS = 1024


@dataclass(eq=False)
class Pairing:
    """A reader's open handshake.

    `is_first`: it replaced none. `replaced` is set when a later one takes its place. `is_proven`: the reader
    has presented its token.
    """

    reader: str
    token: bytes = field(repr=False)
    is_first: bool
    is_proven: bool = False
    replaced: asyncio.Event = field(default_factory=asyncio.Event, repr=False)


class PairedReaders:
    """Readers by name; each has one handshake. Event loop only.

    The first hello under a name gets a random token of 16 bytes. From then on only a hello with this token
    pairs under that name. That lasts beyond the handshake, for the last 1,024 readers that have presented
    their token; one that never did may not have received it. Tokens are compared in constant time.
    """

    def __init__(self, new_token: Callable[[], bytes] = lambda: secrets.token_bytes(TOKEN_BYTES)) -> None:
        self._new_token = new_token
        self._open: dict[str, Pairing] = {}
        self._tokens_of_gone: OrderedDict[str, bytes] = OrderedDict()

    def join(self, reader: str, token: bytes) -> Pairing:
        """Pairs a reader, in place of its open handshake if it has one.

        Raises AlreadyPaired if the name has a token and `token` is another one; nothing changes then.
        """
        current = self._open.get(reader)
        expected = self._tokens_of_gone.get(reader) if current is None else current.token
        if expected is not None and not hmac.compare_digest(expected, token):
            raise AlreadyPaired(f"reader {reader!r} is paired already, with another token than this hello's")
        pairing = Pairing(reader, expected or self._new_token(), current is None, is_proven=bool(expected))
        if current is not None:
            current.replaced.set()
        self._tokens_of_gone.pop(reader, None)
        self._open[reader] = pairing
        return pairing

    def leave(self, pairing: Pairing) -> bool:
        """Ends a handshake. Returns whether its reader is gone: False if a later handshake replaced it."""
        if self._open.get(pairing.reader) is not pairing:
            return False
        del self._open[pairing.reader]
        if pairing.is_proven:
            self._tokens_of_gone[pairing.reader] = pairing.token
            if len(self._tokens_of_gone) > _REMEMBERED_READERS:
                self._tokens_of_gone.popitem(last=False)
        return True

    def is_paired(self, reader: str) -> bool:
        """Whether a handshake of this reader is open."""
        return reader in self._open

    def authenticate(self, reader: str, token: bytes) -> None:
        """Raises Unavailable unless a handshake of this reader is open and its offer had this token."""
        pairing = self._open.get(reader)
        if pairing is None or not hmac.compare_digest(pairing.token, token):
            raise Unavailable(f"reader {reader!r} has no open handshake whose offer had this token")
        pairing.is_proven = True
