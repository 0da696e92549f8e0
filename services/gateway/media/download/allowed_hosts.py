"""From which hosts this gateway fetches."""

from __future__ import annotations

import re

from services.common.errors import ConfigError

_NAME = re.compile(r"(?P<any>\*\.)?(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)(?::(?P<port>[0-9]{1,5}))?")


class AllowedHosts:
    """`text`: entries separated by commas: a name, `*.name` (everything below it), or `*` (every name).

    A name has `:port` behind it where that is not the scheme's own. Empty: no host.
    """

    def __init__(self, text: str) -> None:
        """Raises ConfigError for what is no entry."""
        self._exact: set[tuple[str, int | None]] = set()
        self._below: set[tuple[str, int | None]] = set()
        self._all = False
        for entry in filter(None, (part.strip().lower() for part in text.split(","))):
            if entry == "*":
                self._all = True
                continue
            found = _NAME.fullmatch(entry)
            if found is None or int(found["port"] or 1) not in range(1, 65536):
                raise ConfigError(f"allowed_media_hosts: {entry!r} is no host, *.host or *")
            port = int(found["port"]) if found["port"] else None
            (self._below if found["any"] else self._exact).add((found["host"], port))

    def __bool__(self) -> bool:
        return self._all or bool(self._exact or self._below)

    def allows(self, host: str, port: int | None) -> bool:
        """`host`: lower case; `port`: None for the scheme's own."""
        if self._all and port is None:
            return True
        labels = host.split(".")
        parents = {".".join(labels[index:]) for index in range(1, len(labels))}
        return (host, port) in self._exact or any((parent, port) in self._below for parent in parents)
