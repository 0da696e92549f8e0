"""TLS of a client whose bytes are decrypted when it has time for that."""

from __future__ import annotations

import ssl

_READ = 1 << 16


class TlsStream:
    """One connection's TLS, without the connection: bytes go in and out."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._stream = context.wrap_bio(self._received, self._to_send, server_hostname=host)
        self.ready = False

    def shake(self, received: bytes = b"") -> bytes:
        """Goes on with the handshake; returns what is to be sent. `ready` after the last step.

        Raises ssl.SSLError.
        """
        self._received.write(received)
        try:
            self._stream.do_handshake()
            self.ready = True
        except ssl.SSLWantReadError:
            pass
        return self._to_send.read()

    def encrypt(self, data: bytes) -> bytes:
        """Returns what is to be sent for `data`."""
        self._stream.write(data)
        return self._to_send.read()

    def decrypt(self, received: bytes) -> bytes:
        """Returns the text that is whole by now."""
        self._received.write(received)
        text = b""
        try:
            while piece := self._stream.read(_READ):
                text += piece
        except ssl.SSLWantReadError:
            pass
        return text
