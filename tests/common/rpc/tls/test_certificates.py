"""The files of a certificate: which pass, and what a change of them does."""

from __future__ import annotations

import datetime
import os

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from services.cli.dev_certificates import Authority, write_bundle
from services.common.errors import ConfigError
from services.common.rpc.tls.bundle import Bundle
from services.common.rpc.tls.certificates import Certificates
from services.common.rpc.tls.trust_domain import ROLES, TrustDomain
from tests.support.certificates import DAY, DOMAIN, Deployment
from tests.support.waiting import wait_until


@pytest.fixture
def deployment(tmp_path):
    return Deployment(tmp_path)


def of_decode(deployment):
    return Certificates.of_peer(deployment.path("decode"), DOMAIN, "decode")


def test_the_files_of_the_role_pass(deployment):
    deployment.issue("decode")
    certificates = of_decode(deployment)
    assert b"BEGIN CERTIFICATE" in certificates.current.chain
    assert certificates.valid_until.endswith("GMT")


def test_a_directory_without_the_files_is_named_with_what_is_missing(deployment):
    with pytest.raises(ConfigError, match=r"decode/tls\.crt cannot be read: No such file"):
        of_decode(deployment)


def test_the_certificate_of_another_role_is_refused_and_both_roles_are_named(deployment):
    write_bundle(deployment.path("decode"), deployment.authority.of_role(DOMAIN, "prefill", DAY))
    with pytest.raises(ConfigError, match=r"must have .*perigee/decode .*; has .*perigee/prefill"):
        of_decode(deployment)


def test_a_role_of_another_trust_domain_is_refused(deployment):
    foreign = TrustDomain("example.org")
    write_bundle(deployment.path("decode"), deployment.authority.of_role(foreign, "decode", DAY))
    with pytest.raises(ConfigError, match=r"spiffe://example\.org/perigee/decode"):
        of_decode(deployment)


def test_a_certificate_without_the_role_s_dns_name_is_refused_for_callers_would_refuse_it(deployment):
    uri = x509.UniformResourceIdentifier(DOMAIN.spiffe_id("decode"))
    for names in ([uri], [uri, x509.DNSName("prefill.perigee.internal")]):
        write_bundle(deployment.path("decode"), deployment.authority.sign(names, DAY))
        with pytest.raises(ConfigError, match=r"DNS name .* decode\.perigee\.internal"):
            of_decode(deployment)


def test_files_that_are_replaced_while_they_are_checked_are_not_taken(deployment):
    deployment.issue("decode")
    replaced = []

    def check():
        if replaced:
            deployment.issue("decode")
        return ""

    certificates = Certificates(deployment.path("decode"), check, with_ca=True)
    replaced.append(True)
    former = certificates.current
    deployment.issue("decode")
    assert not certificates.look()
    assert certificates.current is former
    replaced.clear()
    assert certificates.look()


def test_where_any_role_will_do_every_one_does(deployment):
    for role in ROLES:
        Certificates.of_peer(deployment.issue(role), DOMAIN, *ROLES)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ours, other: Bundle(ours.chain, other.key, ours.ca), "key values mismatch"),
        (lambda ours, other: Bundle(ours.chain, ours.key, other.ca), "unable to get local issuer"),
        (lambda ours, other: Bundle(b"nonsense", ours.key, ours.ca), "refused"),
        (lambda ours, other: Bundle(ours.chain, ours.key, b""), "refused"),
    ],
    ids=["foreign key", "foreign CA", "no certificate", "no CA"],
)
def test_files_that_do_not_belong_together_are_refused(deployment, change, reason):
    ours = deployment.authority.of_role(DOMAIN, "decode", DAY)
    other = Authority.new("other").of_role(DOMAIN, "decode", DAY)
    write_bundle(deployment.path("decode"), change(ours, other))
    with pytest.raises(ConfigError, match=reason):
        of_decode(deployment)


def test_an_expired_certificate_is_refused_at_the_start(deployment):
    deployment.issue("decode", -datetime.timedelta(seconds=1))
    with pytest.raises(ConfigError, match="certificate has expired"):
        of_decode(deployment)


def test_a_look_at_unchanged_files_changes_nothing(deployment):
    deployment.issue("decode")
    certificates = of_decode(deployment)
    assert not certificates.look()


def test_new_files_are_taken_and_listeners_are_told(deployment):
    deployment.issue("decode")
    certificates, told = of_decode(deployment), []
    certificates.on_change(lambda: told.append(certificates.current))
    former = certificates.current
    deployment.issue("decode")
    assert certificates.look()
    assert certificates.current != former
    assert told == [certificates.current]
    assert not certificates.look()


def test_files_moved_by_a_link_as_in_a_mounted_secret_are_noticed(deployment, tmp_path):
    path = deployment.path("decode")
    for number in (1, 2):
        bundle = deployment.authority.of_role(DOMAIN, "decode", DAY)
        write_bundle(tmp_path / f"data{number}", bundle)
    path.symlink_to(tmp_path / "data1")
    certificates = of_decode(deployment)
    (tmp_path / "next").symlink_to(tmp_path / "data2")
    os.replace(tmp_path / "next", path)
    assert certificates.look()


def test_half_a_rotation_changes_nothing_and_the_whole_one_is_taken(deployment):
    deployment.issue("decode")
    certificates = of_decode(deployment)
    former, new = certificates.current, deployment.authority.of_role(DOMAIN, "decode", DAY)
    (deployment.path("decode") / "tls.crt").write_bytes(new.chain)
    with capture_logs() as logs:
        for _ in range(5):
            assert not certificates.look()
    assert certificates.current is former
    refusals = [line for line in logs if "refused" in line["event"]]
    assert len(refusals) == 1
    assert refusals[0]["log_level"] == "error"
    (deployment.path("decode") / "tls.key").write_bytes(new.key)
    assert certificates.look()
    assert certificates.current == new


def test_a_rotation_that_is_complete_at_the_second_look_is_no_error(deployment):
    deployment.issue("decode")
    certificates = of_decode(deployment)
    new = deployment.authority.of_role(DOMAIN, "decode", DAY)
    with capture_logs() as logs:
        (deployment.path("decode") / "tls.crt").write_bytes(new.chain)
        assert not certificates.look()
        (deployment.path("decode") / "tls.key").write_bytes(new.key)
        assert certificates.look()
    assert not [line for line in logs if line["log_level"] == "error"]


def test_files_that_vanish_leave_the_certificates_in_use(deployment):
    deployment.issue("decode")
    certificates = of_decode(deployment)
    for file in deployment.path("decode").iterdir():
        file.unlink()
    assert not certificates.look()
    deployment.issue("decode")
    assert certificates.look()


def test_a_thread_looks_while_the_block_lasts(deployment):
    deployment.issue("decode")
    certificates = of_decode(deployment)
    former = certificates.current
    with certificates.watching(every_s=0.01):
        deployment.issue("decode")
        wait_until(lambda: certificates.current != former, 20.0)
