"""Addresses of workers: host:port, the host a name or an IP address."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from services.common.errors import ConfigError


@dataclass(frozen=True)
class PoolAddress:
    """One entry of a pool's setting. A name may stand for many workers, an IP address for one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> PoolAddress:
        """From host:port, IPv6 addresses in brackets. Raises ConfigError."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ConfigError(f"{text!r} is not host:port")
        return cls(host.strip("[]"), int(port))

    @property
    def is_ip(self) -> bool:
        """True if the host is an IP address, which needs no resolving."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    def at(self, ip: str) -> str:
        """host:port of the worker that answers at `ip`."""
        return f"[{ip}]:{self.port}" if ":" in ip else f"{ip}:{self.port}"

    def __str__(self) -> str:
        return self.at(self.host)


def parse_pool(text: str) -> tuple[PoolAddress, ...]:
    """The entries of a comma-separated setting. Raises ConfigError."""
    return tuple(PoolAddress.parse(part.strip()) for part in text.split(",") if part.strip())
