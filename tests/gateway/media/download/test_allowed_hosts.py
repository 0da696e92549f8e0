import pytest

from services.common.errors import ConfigError
from services.gateway.config import GatewayConfig
from services.gateway.media.download.allowed_hosts import AllowedHosts


def test_without_entries_no_host_is_allowed():
    assert not AllowedHosts("")
    assert not AllowedHosts("").allows("files.example", None)


def test_a_name_means_itself_and_a_star_all_below_it():
    hosts = AllowedHosts("Files.example, *.cdn.example")
    assert hosts.allows("files.example", None)
    assert hosts.allows("a.cdn.example", None)
    assert hosts.allows("a.b.cdn.example", None)
    for other in ("cdn.example", "evilcdn.example", "files.example.evil", "x.files.example", "example"):
        assert not hosts.allows(other, None), other


def test_a_port_other_than_the_scheme_s_own_must_be_named():
    hosts = AllowedHosts("files.example, *.cdn.example:8443")
    assert not hosts.allows("files.example", 8080)
    assert hosts.allows("a.cdn.example", 8443)
    assert not hosts.allows("a.cdn.example", None)


def test_a_lone_star_means_every_name_on_its_usual_port():
    assert AllowedHosts("*").allows("anything.example", None)
    assert not AllowedHosts("*").allows("anything.example", 6379)


@pytest.mark.parametrize("entry", ["http://x", "a b", "*.*", "x:0", "x:99999", "a/b", "-:x"])
def test_what_is_no_host_is_refused_at_start(entry):
    with pytest.raises(ConfigError, match="allowed_media_hosts"):
        GatewayConfig(allowed_media_hosts=entry)
