"""`perigee certs dev`: what it writes is what services and commands take."""

from __future__ import annotations

import ssl

import pytest

from services.cli.main import main
from services.common.errors import ConfigError
from services.common.rpc.tls.certificates import Certificates
from services.common.rpc.tls.trust_domain import ROLES, TrustDomain


@pytest.fixture
def certs(tmp_path, capsys):
    """Runs the command on a directory; returns it and the lines printed."""

    def run(*flags):
        assert main(["certs", "dev", str(tmp_path / "certs"), *flags]) == 0
        return tmp_path / "certs", capsys.readouterr().out.splitlines()

    return run


def test_every_role_and_the_ports_for_clients_get_a_directory(certs):
    directory, lines = certs()
    assert lines == [str(directory / name) for name in (*ROLES, "public")]
    for role in ROLES:
        Certificates.of_peer(directory / role, TrustDomain(), role)
    Certificates.of_door(directory / "public")


def test_the_trust_domain_is_in_the_names(certs):
    directory, _ = certs("--trust-domain", "lab.example.org")
    Certificates.of_peer(directory / "decode", TrustDomain("lab.example.org"), "decode")
    with pytest.raises(ConfigError, match=r"spiffe://lab\.example\.org/perigee/decode"):
        Certificates.of_peer(directory / "decode", TrustDomain(), "decode")


def test_keys_are_for_the_owner_alone(certs):
    directory, _ = certs()
    keys = [directory / "ca.key", *directory.glob("*/tls.key")]
    assert len(keys) == len(ROLES) + 2
    assert all(key.stat().st_mode & 0o077 == 0 for key in keys)


def test_the_public_certificate_has_the_names_that_clients_use(certs):
    directory, _ = certs("--public-names", "api.example.org,10.0.0.7")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "public" / "tls.crt", directory / "public" / "tls.key")
    for name, fits in (("api.example.org", True), ("10.0.0.7", True), ("example.org", False)):
        client = ssl.create_default_context(cafile=directory / "public" / "ca.crt")
        assert handshake(client, server, name) is fits


def handshake(client, server, name):
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return True


def test_called_again_it_replaces_the_certificates_and_keeps_the_ca(certs):
    directory, _ = certs()
    certificates = Certificates.of_peer(directory / "decode", TrustDomain(), "decode")
    former = certificates.current
    certs()
    assert certificates.look()
    assert certificates.current.chain != former.chain
    assert certificates.current.ca == former.ca


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--days", "0"], "--days must be above 0"),
        (["--days", "nan"], "--days must be above 0"),
        (["--trust-domain", "Not A Name"], "is not a DNS name in lower case"),
        (["--public-names", ","], "--public-names is empty"),
        (["--public-names", "näme"], "is neither a DNS name nor an IP address"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, capsys, flags, reason):
    assert main(["certs", "dev", str(tmp_path / "certs"), *flags]) == 2
    assert reason in capsys.readouterr().err


def test_a_directory_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["certs", "dev", str(tmp_path / "file" / "certs")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
