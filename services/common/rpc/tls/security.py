"""What protects the connections of one process."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc

from services.common.errors import ConfigError
from services.common.rpc.role import Role
from services.common.rpc.tls.bundle import CERTIFICATE, KEY, Bundle
from services.common.rpc.tls.certificates import Certificates
from services.common.rpc.tls.trust_domain import TrustDomain


class PeerSettings(Protocol):
    """TlsSettings, and what commands have in their place."""

    @property
    def tls_dir(self) -> str: ...
    @property
    def trust_domain(self) -> str: ...
    @property
    def insecure(self) -> bool: ...


@dataclass(frozen=True)
class Security:
    """`peers`: the certificates for services and operators, None for plain TCP. `door`: those of the servers
    for clients, None for plain TCP. `client_ca`: the CA of clients' certificates, PEM; with it, a client
    needs one. `insecure`: plain TCP is allowed on addresses that other machines reach.
    """

    trust_domain: TrustDomain = field(default_factory=TrustDomain)
    peers: Certificates | None = None
    door: Certificates | None = None
    client_ca: bytes | None = None
    insecure: bool = False

    @classmethod
    def of(cls, settings: PeerSettings, *roles: Role, door_dir: str = "", client_ca: str = "") -> Security:
        """Reads and checks the certificates; the one for peers must give this process one of `roles`.

        Raises ConfigError naming the file and what is wrong.
        """
        domain = TrustDomain(settings.trust_domain)
        return cls(
            domain,
            Certificates.of_peer(Path(settings.tls_dir), domain, *roles) if settings.tls_dir else None,
            Certificates.of_door(Path(door_dir)) if door_dir else None,
            _client_ca(client_ca) if client_ca else None,
            settings.insecure,
        )

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Takes new certificates when their files change, for the length of the block."""
        with contextlib.ExitStack() as stack:
            for certificates in (self.peers, self.door):
                if certificates is not None:
                    stack.enter_context(certificates.watching())
            yield

    def door_context(self) -> ssl.SSLContext | None:
        """Returns the TLS settings of an HTTP server for clients; None for plain HTTP.

        `load_door` has connections from then on see the certificate of then.
        """
        if self.door is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self.client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.client_ca.decode("ascii"))
        self.load_door(context)
        return context

    def load_door(self, context: ssl.SSLContext) -> None:
        """Loads the door's certificate into a context that `door_context` made."""
        assert self.door is not None
        context.load_cert_chain(self.door.directory / CERTIFICATE, self.door.directory / KEY)

    def server_credentials(self, *, door: bool) -> grpc.ServerCredentials | None:
        """Returns credentials that follow rotation; None for plain TCP. `door`: of a server for clients."""
        if not door:
            return None if self.peers is None else _following(self.peers, lambda bundle: bundle.ca, True)
        if self.door is None:
            return None
        return _following(self.door, lambda _: self.client_ca, self.client_ca is not None)


def channel_credentials(bundle: Bundle) -> grpc.ChannelCredentials:
    """Returns credentials of a channel that shows this certificate."""
    return grpc.ssl_channel_credentials(bundle.ca, bundle.key, bundle.chain)


def _following(
    certificates: Certificates, ca_of: Callable[[Bundle], bytes | None], client_needs_one: bool
) -> grpc.ServerCredentials:
    """gRPC asks `changed` at every connection, on a thread of its own: it must not read files or wait."""
    given = certificates.current

    def configuration(bundle: Bundle) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(bundle.key, bundle.chain)], ca_of(bundle))

    # The stubs do not know that None stands for "no change".
    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        now = certificates.current
        if now is given:
            return None
        given = now
        return configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        configuration(given),
        changed,  # type: ignore[arg-type]
        client_needs_one,
    )


def _client_ca(path: str) -> bytes:
    try:
        pem = Path(path).read_bytes()
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem.decode("ascii"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"public_client_ca: {path} is not the certificate of a CA: {error}") from error
    return pem
