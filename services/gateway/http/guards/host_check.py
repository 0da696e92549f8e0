"""Which names a request may call this gateway by: the defence against DNS rebinding.

A page of another site can have its own name resolve to 127.0.0.1, so that a browser takes this gateway for
that site and lets the page read the answers. Its requests show the page's name as their Host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from starlette.types import Scope

from services.common.errors import ConfigError

_ALWAYS = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^\s:/@\[\]]+))(?::[0-9]{0,5})?")
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


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
        for entry in entries:
            self._add(entry.lower())

    def refusal(self, scope: Scope) -> str | None:
        """What to answer to a request that does not belong here; None: it does.

        A request without a Host comes from no browser.
        """
        for name, value in scope["headers"]:
            if name == b"host" and value and not self._allows(value.decode("latin-1").lower(), scope):
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

    def _allows(self, host: str, scope: Scope) -> bool:
        if self._any:
            return True
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name: str = found["v6"] or found["name"].removesuffix(".")
        if name in self._exact or any(parent in self._below for parent in _parents(name)):
            return True
        return not _at_loopback(scope) and (_is_address(name) or not self._set)


def _parents(name: str) -> Iterable[str]:
    labels = name.split(".")
    return (".".join(labels[index:]) for index in range(1, len(labels)))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _at_loopback(scope: Scope) -> bool:
    """Whether the client connected to a loopback address of this machine, or it is not known to which."""
    try:
        address = ipaddress.ip_address(scope["server"][0])
    except (TypeError, ValueError):
        return True
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
