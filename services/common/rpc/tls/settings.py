"""The settings of identity and encryption that every service has."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from services.common.errors import ConfigError
from services.common.rpc.tls.trust_domain import DEFAULT_TRUST_DOMAIN, TrustDomain

_HOW = (
    "`perigee certs dev DIR` makes certificates to try, docs/security.md says more. On a network that you"
    " trust, --insecure (PERIGEE_INSECURE=true) does without"
)


@dataclass(frozen=True)
class TlsSettings:
    """Base of the services' settings."""

    tls_dir: str = field(
        default="",
        metadata={
            "help": "directory of this service's certificate: tls.crt, tls.key and ca.crt; with it, services"
            " accept only each other and operators (mTLS); empty: plain TCP, on loopback addresses only"
        },
    )
    trust_domain: str = field(
        default=DEFAULT_TRUST_DOMAIN,
        metadata={"help": "the DNS name in all certificates of a deployment, e.g. decode.<this>"},
    )
    insecure: bool = field(
        default=False,
        metadata={"help": "plain TCP on addresses that other machines reach, where no certificate is given"},
    )

    def check_tls(self) -> None:
        """Raises ConfigError for a trust domain that is none."""
        TrustDomain(self.trust_domain)

    def refuse_plain(self, key: str) -> None:
        """Raises ConfigError if the setting `key` is an address on which peers would be served without mTLS
        although other machines reach it, unless `insecure` says so.
        """
        host: str = getattr(self, key)
        if not (self.tls_dir or self.insecure or is_loopback(host)):
            raise plain_refused(f"{key}: other machines reach {host}", "--tls-dir (PERIGEE_TLS_DIR)")


def plain_refused(what: str, flag: str) -> ConfigError:
    """Returns the error for an address that would be served without TLS. `flag`: gives the certificates."""
    return ConfigError(f"{what}, and there is no certificate: give one with {flag}; {_HOW}")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
