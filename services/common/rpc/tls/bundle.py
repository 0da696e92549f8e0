"""A certificate, its key and the CA, as files of one directory."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.common.errors import ConfigError

CERTIFICATE, KEY, CA = "tls.crt", "tls.key", "ca.crt"
"""The names that cert-manager gives them."""

# Client and server each have at most this many turns in a handshake between two memory buffers.
_TURNS = 8


@dataclass(frozen=True)
class Bundle:
    """PEM texts. `chain`: the certificate, then those between it and the CA. `ca`: one or more certificates;
    empty where the directory belongs to a door, whose clients know the CA themselves.
    """

    chain: bytes
    key: bytes = field(repr=False)
    ca: bytes = b""


@dataclass(frozen=True)
class Subject:
    """What a certificate says: URIs, DNS names, and when it ends, e.g. "Dec  1 11:37:35 2026 GMT"."""

    uris: tuple[str, ...]
    dns_names: tuple[str, ...]
    not_after: str


def read_bundle(directory: Path, *, with_ca: bool) -> Bundle:
    """Reads the files. Raises ConfigError naming the file that cannot be read."""
    return Bundle(
        _read(directory / CERTIFICATE), _read(directory / KEY), _read(directory / CA) if with_ca else b""
    )


def check_peer_files(directory: Path) -> Subject:
    """Checks the files by a TLS handshake of this process with itself: both ends show the certificate.

    What passes is what a peer with the same CA accepts now, from a server and from a client; names are for
    the caller to check. Raises ConfigError with the reason.
    """
    try:
        server = _context(directory, ssl.PROTOCOL_TLS_SERVER)
        client = _context(directory, ssl.PROTOCOL_TLS_CLIENT)
        server.verify_mode = ssl.CERT_REQUIRED
        client.check_hostname = False
        return _shake_hands(server, client)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{directory}: the certificate is refused: {_reason(error)}") from error


def check_door_files(directory: Path) -> None:
    """Checks that key and certificate belong together. Raises ConfigError with the reason."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(directory / CERTIFICATE, directory / KEY)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{directory}: the certificate is refused: {_reason(error)}") from error


def _context(directory: Path, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.load_cert_chain(directory / CERTIFICATE, directory / KEY)
    context.load_verify_locations(directory / CA)
    return context


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> Subject:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(_TURNS):
        waiting = [end for end in waiting if not _advance(end)]
    if waiting:
        raise ValueError("the handshake did not end")
    found = ends[0].getpeercert() or {}
    names: Sequence[tuple[str, str]] = found.get("subjectAltName", ())  # type: ignore[assignment]
    return Subject(
        tuple(value for kind, value in names if kind == "URI"),
        tuple(value for kind, value in names if kind == "DNS"),
        str(found.get("notAfter")),
    )


def _advance(end: ssl.SSLObject) -> bool:
    """Takes the handshake as far as it goes; returns whether it is done at this end."""
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    return str(error)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
