"""Decides whether a caller may do what it asks for, by the API key it sends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from services.common.errors import PermissionDenied, Unauthenticated
from services.gateway.access.key_record import KeyRecord
from services.gateway.access.rules import Need
from services.gateway.access.secret import digest
from services.gateway.access.tenant import Tenant
from services.gateway.access.usage_store import UsageStore

_MOST_SHOWN = 100
"""Labels that metrics may have. The first keys have their own; all others have one together."""

_NOT_VALID = "this needs a valid API key, as 'Authorization: Bearer KEY' or 'x-api-key: KEY'"


class Refused(Unauthenticated):
    """No valid key. `why` and `label`, of an expired key, are for the log alone."""

    def __init__(self, why: str, label: str = "") -> None:
        super().__init__(_NOT_VALID)
        self.why, self.label = why, label


class LacksScope(PermissionDenied):
    """The key has another scope. `label`: the key's."""

    def __init__(self, need: str, label: str) -> None:
        super().__init__(f"this needs an API key with the scope {need!r}; yours does not have it")
        self.why, self.label = f"no scope {need}", label


class Gatekeeper:
    """Knows the holders of valid keys by the keys' digests. Used on the event loop only.

    Without a file of keys every caller is let in, and no request has a tenant.
    """

    def __init__(
        self,
        records: Iterable[KeyRecord] | None,
        usages: UsageStore | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`records`: None: no keys are asked for. `usages`: where the use of keys is counted; None: in this
        process alone. `clock`: seconds since 1970.
        """
        self.asks = records is not None
        self._usages = usages or UsageStore()
        self._clock = clock
        self._by_digest: dict[str, Tenant] = {}
        self._shown: set[str] = set()
        self.replace(records or ())

    def replace(self, records: Iterable[KeyRecord]) -> None:
        """Takes these keys in place of the ones before. Requests that run are not touched; what a label has
        used still counts.
        """
        self._by_digest = {record.sha256: self._tenant(record) for record in records}

    def caller(self, key: str | None, need: Need) -> Tenant | None:
        """Returns the holder of the key that a request came with; None if no keys are asked for, or the
        request needs none.

        Raises Unauthenticated for a missing, unknown or expired key, all with the same text, and
        PermissionDenied for a valid one without the scope.
        """
        if not self.asks or need is None:
            return None
        if key is None:
            raise Refused("no key")
        tenant = self._by_digest.get(digest(key))
        if tenant is None:
            raise Refused("unknown key")
        record = tenant.record
        if record.expires is not None and self._clock() >= record.expires.timestamp():
            raise Refused("expired key", record.label)
        if need != "any" and need not in record.scopes:
            raise LacksScope(need, record.label)
        return tenant

    def _tenant(self, record: KeyRecord) -> Tenant:
        if len(self._shown) < _MOST_SHOWN:
            self._shown.add(record.label)
        shown = record.label if record.label in self._shown else "other"
        return Tenant(record, self._usages.of(record.label), shown)


def key_in(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """Returns the API key in a call's metadata; None: there is none."""
    found = {name: value for name, value in metadata or () if isinstance(value, str)}
    return presented_key(found.get("authorization"), found.get("x-api-key"))


def presented_key(authorization: str | None, x_api_key: str | None) -> str | None:
    """Returns the key that a request shows in its headers or metadata: a bearer token, else `x-api-key`."""
    if authorization is not None:
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
    return x_api_key
