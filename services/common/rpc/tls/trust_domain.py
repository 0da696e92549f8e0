"""The names that certificates give to the processes of one deployment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args

from services.common.errors import ConfigError
from services.common.rpc.role import Role

ROLES: tuple[Role, ...] = get_args(Role)
DEFAULT_TRUST_DOMAIN = "perigee.internal"

_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_MOST_CHARACTERS = 200


@dataclass(frozen=True)
class TrustDomain:
    """A DNS name, in lower case, below which every role has a name. Certificates of two trust domains are
    foreign to each other even if one CA signed both. Raises ConfigError for what is no such name.
    """

    name: str = DEFAULT_TRUST_DOMAIN

    def __post_init__(self) -> None:
        if len(self.name) > _MOST_CHARACTERS or not _NAME.fullmatch(self.name):
            raise ConfigError(f"trust_domain: {self.name!r} is not a DNS name in lower case")

    def spiffe_id(self, role: Role) -> str:
        """Returns the URI by which servers know a caller."""
        return f"spiffe://{self.name}/perigee/{role}"

    def dns_name(self, role: Role) -> str:
        """Returns the DNS name by which callers know a server, whatever its address is."""
        return f"{role}.{self.name}"

    def role_of(self, spiffe_id: str) -> Role | None:
        """Returns the role that a URI gives to its owner; None for every other URI."""
        return next((role for role in ROLES if spiffe_id == self.spiffe_id(role)), None)
