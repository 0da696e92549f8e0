"""Which names a request may call this gateway by: the defence against DNS rebinding.

A page of another site can have its own name resolve to 127.0.0.1, so that a browser takes this gateway for
that site and lets the page read the answers. Its requests show the page's name as their Host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from starlette.types import Scope

from services.common.errors import ConfigError

_ALWAYS = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^\s:/@\[\]]+))(?::[0-9]{0,5})?")
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
# A name of 253 characters, with its last dot and a port.
_MOST_BYTES = 260


class HostCheck:
    """Always allowed: `localhost`, `127.0.0.1`, `[::1]` and what the setting names, on any port.

    On a connection to a loopback address nothing else is. On any other connection IP addresses are, because
    they are not resolved, and without a setting every name is, because services have names that are not known
    here.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        """`entries`: names or IP addresses, `*.name` for every name below it, or `*` for any.

        Raises ConfigError for what is none of these.
        """
        self._exact = set(_ALWAYS)
        self._below: set[str] = set()
        self._any = False
        self._set = bool(entries)
        self._allows = lru_cache(maxsize=64)(self._decide)
        for entry in entries:
            self._add(entry.lower())

    def refusal(self, scope: Scope) -> str | None:
        """What to answer to a request that does not belong here; None: it does.

        A request without a Host comes from no browser.
        """
        for name, value in scope["headers"]:
            if name != b"host" or not value:
                continue
            server = scope["server"]
            if len(value) > _MOST_BYTES or not self._allows(value, server[0] if server else ""):
                shown = value.decode("latin-1")[:100]
                return f"host {shown!r} is not served here; --allowed-hosts adds names to localhost"
        return None

    def _add(self, entry: str) -> None:
        bare = entry[1:-1] if entry.startswith("[") and entry.endswith("]") else entry
        if entry == "*":
            self._any = True
        elif entry.startswith("*.") and _NAME.fullmatch(entry[2:]):
            self._below.add(entry[2:])
        elif _NAME.fullmatch(entry) or _is_address(bare):
            self._exact.add(bare)
        else:
            raise ConfigError(f"allowed_hosts: {entry!r} is no name, IP address, *.name or *")

    def _decide(self, host: bytes, server: str) -> bool:
        """`server`: the address that the client connected to, empty if it is not known."""
        if self._any:
            return True
        found = _HOST.fullmatch(host.decode("latin-1").lower())
        if found is None:
            return False
        name: str = found["v6"] or found["name"].removesuffix(".")
        if name in self._exact or any(parent in self._below for parent in _parents(name)):
            return True
        return not _is_loopback(server) and (_is_address(name) or not self._set)


def _parents(name: str) -> Iterable[str]:
    labels = name.split(".")
    return (".".join(labels[index:]) for index in range(1, len(labels)))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(server: str) -> bool:
    """True for what is no address, too: nothing shows then where the client connected to."""
    try:
        address = ipaddress.ip_address(server)
    except ValueError:
        return True
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
