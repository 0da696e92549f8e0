"""A URL that may be fetched."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

import httpcore

from services.common.errors import InvalidRequest, UnsupportedValue
from services.gateway.media.download.allowed_hosts import AllowedHosts

_MOST_CHARACTERS = 8192
_OWN_PORTS = {"http": 80, "https": 443}
# What a path or query may hold as it is; the rest is escaped, so that none of it ends a line.
_SAFE = "%/:?#[]@!$&'()*+,;=-._~"


@dataclass(frozen=True)
class Location:
    """`text`: as it was given, for redirects relative to it."""

    text: str
    url: httpcore.URL

    @classmethod
    def parse(cls, text: str, hosts: AllowedHosts) -> Location:
        """Raises InvalidRequest for what is no URL, UnsupportedValue for one that is not allowed."""
        if len(text) > _MOST_CHARACTERS:
            raise InvalidRequest(f"the URL is longer than {_MOST_CHARACTERS} characters")
        try:
            parts = urlsplit(text)
            host = (parts.hostname or "").encode("idna").decode("ascii").rstrip(".").lower()
            port = parts.port
        except (ValueError, UnicodeError) as error:
            raise InvalidRequest(f"not a URL: {error}") from error
        scheme = parts.scheme.lower()
        if scheme not in _OWN_PORTS:
            raise UnsupportedValue(f"URLs of {scheme or 'no scheme'} are not fetched")
        if not host or parts.username is not None or parts.password is not None:
            raise InvalidRequest("the URL needs a host, and no user")
        own = _OWN_PORTS[scheme]
        if not hosts.allows(host, None if port in (None, own) else port):
            raise UnsupportedValue(f"nothing is fetched from {host}{f':{port}' if port else ''} here")
        target = quote(parts.path or "/", _SAFE) + (f"?{quote(parts.query, _SAFE)}" if parts.query else "")
        return cls(text, httpcore.URL(scheme=scheme, host=host, port=port or own, target=target))

    def redirected(self, to: str, hosts: AllowedHosts) -> Location:
        """Returns the target of a Location header. Raises like `parse`."""
        try:
            return self.parse(urljoin(self.text, to), hosts)
        except ValueError as error:
            raise InvalidRequest(f"redirected to no URL: {error}") from error
