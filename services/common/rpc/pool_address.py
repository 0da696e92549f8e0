"""Entries of a pool's setting: addresses of workers, and files that list such addresses."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from services.common.errors import ConfigError

_FILE = "file:"


@dataclass(frozen=True)
class PoolAddress:
    """host:port. A name may stand for many workers, an IP address for one."""

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

    @property
    def name(self) -> str:
        """What is resolved: the host."""
        return self.host

    def may_list(self, address: PoolAddress) -> bool:
        """Whether this entry can stand for a worker at `address`, whose host is an IP address."""
        return self.port == address.port

    def at(self, ip: str) -> PoolAddress:
        """The worker that answers at `ip`."""
        return PoolAddress(ip, self.port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class PoolFile:
    """file:/PATH, a file with one worker per line: IP address and port. It may change at any time."""

    path: Path

    @property
    def is_ip(self) -> bool:
        """False: the file is read again and again."""
        return False

    @property
    def name(self) -> str:
        """What is resolved: the file."""
        return f"{_FILE}{self.path}"

    def may_list(self, address: PoolAddress) -> bool:
        """True: a file can list any worker."""
        return True

    def read(self) -> list[PoolAddress]:
        """Returns the listed workers. Blocks. Raises OSError, and ValueError for a line of another kind."""
        found = []
        for line in self.path.read_text(encoding="ascii").split():
            try:
                address = PoolAddress.parse(line)
            except ConfigError as error:
                raise ValueError(f"{self.path}: {error.message}") from None
            if not address.is_ip:
                raise ValueError(f"{self.path}: {line!r} has no IP address")
            found.append(address)
        return found

    def __str__(self) -> str:
        return self.name


PoolEntry: TypeAlias = PoolAddress | PoolFile


def parse_pool(text: str) -> tuple[PoolEntry, ...]:
    """The entries of a comma-separated setting. Raises ConfigError."""
    return tuple(_entry(part.strip()) for part in text.split(",") if part.strip())


def _entry(text: str) -> PoolEntry:
    # A relative path could also be the port of a host that is called "file".
    return (
        PoolFile(Path(text.removeprefix(_FILE))) if text.startswith(f"{_FILE}/") else PoolAddress.parse(text)
    )
