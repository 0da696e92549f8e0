"""Certificates of a test's own CA, written where services look for them, and the Endpoints that show them."""

from __future__ import annotations

import datetime
from pathlib import Path
from types import SimpleNamespace

from services.cli.dev_certificates import Authority, write_bundle
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.role import Role
from services.common.rpc.tls.bundle import Bundle
from services.common.rpc.tls.security import Security
from services.common.rpc.tls.trust_domain import DEFAULT_TRUST_DOMAIN, ROLES, TrustDomain

DAY = datetime.timedelta(days=1)
DOMAIN = TrustDomain()


class Deployment:
    """A directory per role below `directory`, all from one CA unless a test says otherwise."""

    def __init__(self, directory: Path, trust_domain: str = DEFAULT_TRUST_DOMAIN) -> None:
        self.directory = directory
        self.domain = TrustDomain(trust_domain)
        self.authority = Authority.new("test")

    def path(self, role: str) -> Path:
        """Where the files of a role are."""
        return self.directory / role

    def issue(self, role: Role, lifetime: datetime.timedelta = DAY, also_trusted: bytes = b"") -> Path:
        """Writes a new certificate of a role. `also_trusted`: PEM certificates of further CAs."""
        bundle = self.authority.of_role(self.domain, role, lifetime)
        write_bundle(self.path(role), Bundle(bundle.chain, bundle.key, bundle.ca + also_trusted))
        return self.path(role)

    def issue_all(self, also_trusted: bytes = b"") -> None:
        """Writes new certificates of all roles."""
        for role in ROLES:
            self.issue(role, also_trusted=also_trusted)

    def security(self, role: Role) -> Security:
        """What a process of the role has, with a certificate made if there is none yet."""
        if not self.path(role).exists():
            self.issue(role)
        settings = SimpleNamespace(
            tls_dir=str(self.path(role)), trust_domain=self.domain.name, insecure=False
        )
        return Security.of(settings, role)

    def endpoints(self, role: Role) -> Endpoints:
        """Endpoints of a process of the role."""
        return Endpoints(role, self.security(role))
