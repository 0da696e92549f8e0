from __future__ import annotations

import pytest

from services.common.errors import ConfigError
from services.common.rpc.tls.trust_domain import ROLES, TrustDomain

DOMAIN = TrustDomain("prod.example.org")


def test_a_role_has_a_uri_and_a_dns_name():
    assert DOMAIN.spiffe_id("decode") == "spiffe://prod.example.org/perigee/decode"
    assert DOMAIN.dns_name("decode") == "decode.prod.example.org"


@pytest.mark.parametrize("role", ROLES)
def test_the_uri_gives_the_role_back(role):
    assert DOMAIN.role_of(DOMAIN.spiffe_id(role)) == role


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://prod.example.org/perigee/",
        "spiffe://prod.example.org/perigee/admin",
        "spiffe://prod.example.org/perigee/gateway/",
        "spiffe://prod.example.org/perigee/gateway/x",
        "spiffe://prod.example.org/other/gateway",
        "spiffe://PROD.example.org/perigee/gateway",
        "spiffe://example.org/perigee/gateway",
        "https://prod.example.org/perigee/gateway",
    ],
)
def test_any_other_uri_gives_no_role(uri):
    assert DOMAIN.role_of(uri) is None


@pytest.mark.parametrize("name", ["", "Example.org", "a b", "a..b", "-a", "a/b", "a_b", "x." * 101 + "y"])
def test_what_is_no_dns_name_is_no_trust_domain(name):
    with pytest.raises(ConfigError, match=r"trust_domain: .* is not a DNS name"):
        TrustDomain(name)
