"""A CA of one's own and the certificates it signs, for trying mTLS and for tests. Needs `cryptography`."""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services.common.errors import ConfigError
from services.common.rpc.role import Role
from services.common.rpc.tls.bundle import CA, CERTIFICATE, KEY, Bundle
from services.common.rpc.tls.trust_domain import ROLES, TrustDomain

PUBLIC = "public"
"""The directory of the certificate of the ports for clients."""

_CA_KEY = "ca.key"
_CA_DAYS = 3650
# Clocks of other machines may be behind.
_BACKDATED = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """A CA: its key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def new(cls, name: str) -> Authority:
        """Makes a CA that signs certificates of servers and clients only."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = _unsigned(subject, subject, key, datetime.timedelta(days=_CA_DAYS))
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    @property
    def pem(self) -> bytes:
        """The CA's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def of_role(self, trust_domain: TrustDomain, role: Role, lifetime: datetime.timedelta) -> Bundle:
        """Signs a certificate for a service or an operator."""
        uri = x509.UniformResourceIdentifier(trust_domain.spiffe_id(role))
        return self.sign([x509.DNSName(trust_domain.dns_name(role)), uri], lifetime)

    def of_server(self, names: Sequence[str], lifetime: datetime.timedelta) -> Bundle:
        """Signs a certificate for a server that clients call by these names or IP addresses."""
        return self.sign([_general_name(name) for name in names], lifetime)

    def sign(self, names: Sequence[x509.GeneralName], lifetime: datetime.timedelta) -> Bundle:
        """Signs a certificate for a new key. `lifetime` counts from now; a negative one has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = (
            _unsigned(x509.Name([]), self.certificate.subject, key, lifetime)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(issuer, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Bundle(certificate.public_bytes(serialization.Encoding.PEM), _pem(key), self.pem)


def write_dev_certificates(
    directory: Path, trust_domain: TrustDomain, public_names: Sequence[str], lifetime: datetime.timedelta
) -> list[Path]:
    """Writes a CA, a directory with a certificate per role, and one for the ports for clients; returns the
    directories.

    A CA that is there already signs the new certificates, so calling this again rotates them. Raises
    ConfigError if a file cannot be read or written.
    """
    try:
        authority = _authority_in(directory, trust_domain)
        found = {str(role): authority.of_role(trust_domain, role, lifetime) for role in ROLES}
        found[PUBLIC] = authority.of_server(public_names, lifetime)
        for name, bundle in found.items():
            write_bundle(directory / name, bundle)
    except OSError as error:
        raise ConfigError(f"{error.filename or directory}: {error.strerror}") from error
    return [directory / name for name in found]


def write_bundle(directory: Path, bundle: Bundle) -> None:
    """Writes the three files, each at once in place of the former; only the owner can read the key."""
    directory.mkdir(parents=True, exist_ok=True)
    _replace(directory / CA, bundle.ca, 0o644)
    _replace(directory / KEY, bundle.key, 0o600)
    _replace(directory / CERTIFICATE, bundle.chain, 0o644)


def _authority_in(directory: Path, trust_domain: TrustDomain) -> Authority:
    """Reads the CA, or makes one and writes it."""
    certificate, key = directory / CA, directory / _CA_KEY
    if certificate.exists() and key.exists():
        try:
            loaded = serialization.load_pem_private_key(key.read_bytes(), None)
            if not isinstance(loaded, ec.EllipticCurvePrivateKey):
                raise ValueError("not a key of this command")
            return Authority(loaded, x509.load_pem_x509_certificate(certificate.read_bytes()))
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from error
    made = Authority.new(f"Perigee development CA of {trust_domain.name}")
    directory.mkdir(parents=True, exist_ok=True)
    _replace(key, _pem(made.key), 0o600)
    _replace(certificate, made.pem, 0o644)
    return made


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
    return (
        builder.public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + lifetime) - _BACKDATED)
        .not_valid_after(now + lifetime)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise ConfigError(f"{name!r} is neither a DNS name nor an IP address") from error


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _replace(path: Path, content: bytes, mode: int) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    new.replace(path)
