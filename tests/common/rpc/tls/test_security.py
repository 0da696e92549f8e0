"""What a process reads at its start."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from services.cli.dev_certificates import Authority, write_bundle
from services.common.errors import ConfigError
from services.common.rpc.tls.security import Security
from tests.support.certificates import DAY, Deployment

PLAIN = SimpleNamespace(tls_dir="", trust_domain="perigee.internal", insecure=False)


def test_without_directories_everything_is_plain():
    security = Security.of(PLAIN, "gateway")
    assert (security.peers, security.door) == (None, None)
    assert security.server_credentials(door=False) is None
    assert security.server_credentials(door=True) is None
    assert security.door_context() is None


def test_peers_and_clients_have_certificates_of_their_own(tmp_path):
    deployment = Deployment(tmp_path)
    settings = SimpleNamespace(
        tls_dir=str(deployment.issue("gateway")), trust_domain="perigee.internal", insecure=False
    )
    write_bundle(tmp_path / "public", Authority.new("public").of_server(["localhost"], DAY))
    security = Security.of(settings, "gateway", door_dir=str(tmp_path / "public"))
    assert security.peers.current.ca == deployment.authority.pem
    assert security.door.current.ca == b""
    assert security.server_credentials(door=True) is not None


@pytest.mark.parametrize("content", [None, "", "nonsense", "ä"])
def test_a_client_ca_that_is_none_is_named(tmp_path, content):
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"public_client_ca: .*ca\.crt is not the certificate of a CA"):
        Security.of(PLAIN, "gateway", client_ca=str(path))


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key"])
def test_a_missing_file_of_the_door_is_named(tmp_path, missing):
    write_bundle(tmp_path, Authority.new("public").of_server(["localhost"], DAY))
    (tmp_path / missing).unlink()
    with pytest.raises(ConfigError, match=f"{missing} cannot be read"):
        Security.of(PLAIN, "gateway", door_dir=str(tmp_path))
