"""Plain TCP is for loopback addresses, or for those who say so."""

from __future__ import annotations

import pytest

from services.cli.roles import ROLES, config_class
from services.common.errors import ConfigError
from services.common.rpc.tls.settings import is_loopback

OTHERS = ["0.0.0.0", "::", "10.0.0.7", "worker-3", ""]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "::1", "[::1]"])
def test_only_this_machine_reaches_a_loopback_address(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", OTHERS)
def test_every_other_address_may_be_reached_by_others(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("host", OTHERS)
@pytest.mark.parametrize("role", ROLES)
def test_a_service_refuses_an_address_that_others_reach_and_says_what_to_do(role, host):
    flag = "--public-tls-dir" if role == "gateway" else "--tls-dir"
    with pytest.raises(ConfigError, match=f"^host: other machines reach {host}, .*{flag}") as caught:
        config_class(role)(host=host)
    assert "perigee certs dev" in caught.value.message
    assert "--insecure" in caught.value.message


@pytest.mark.parametrize("role", ROLES)
def test_a_certificate_or_the_word_insecure_allows_it(role):
    certificate = {"tls_dir": "certs"} | ({"public_tls_dir": "certs"} if role == "gateway" else {})
    config_class(role)(host="0.0.0.0", **certificate)
    config_class(role)(host="0.0.0.0", insecure=True)


def test_a_gateway_s_own_certificate_does_not_make_the_ports_for_clients_safe():
    with pytest.raises(ConfigError, match=r"^host: .*--public-tls-dir"):
        config_class("gateway")(host="0.0.0.0", tls_dir="certs")


def test_a_gateway_s_operator_port_needs_the_certificate_between_services():
    with pytest.raises(ConfigError, match=r"^operator_host: .*--tls-dir"):
        config_class("gateway")(operator_host="0.0.0.0", public_tls_dir="certs")


def test_a_client_ca_without_tls_is_a_mistake():
    with pytest.raises(ConfigError, match=r"^public_client_ca: has no use without public_tls_dir"):
        config_class("gateway")(public_client_ca="ca.crt")


@pytest.mark.parametrize("role", ROLES)
def test_a_trust_domain_that_is_no_dns_name_is_refused(role):
    with pytest.raises(ConfigError, match=r"^trust_domain: "):
        config_class(role)(trust_domain="not a name")
