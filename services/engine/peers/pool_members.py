"""The workers that a setting of a pool names, so that nobody else can choose whom this worker connects to."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Sequence

import structlog

from services.common.errors import ConfigError
from services.common.rpc.name_resolver import Resolve, look_up
from services.common.rpc.pool_address import PoolAddress, PoolEntry

log = structlog.get_logger()

_FRESH_S = 30.0
_PAUSE_S = 1.0
_RESOLVE_S = 5.0


class PoolMembers:
    """Decides whether an address is in a pool. Event loop only.

    Members are the entries as they are written and, for names, all addresses to which they resolve, each with
    its entry's port; for files, what they list. An answer of the resolver serves for 30 s. For an address
    that is not among the known ones the names are resolved again, at most once a second: it may be a new
    replica. A name that cannot be resolved keeps the addresses it had.
    """

    def __init__(
        self, entries: Sequence[PoolEntry], resolve: Resolve, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._names = [entry for entry in entries if not entry.is_ip]
        self._entries = {_literal(each) if isinstance(each, PoolAddress) else each for each in entries}
        self._resolve = resolve
        self._clock = clock
        self._found: dict[PoolEntry, frozenset[PoolAddress]] = {}
        self._resolved_at = float("-inf")
        self._resolving = asyncio.Lock()

    def __str__(self) -> str:
        return ",".join(sorted(map(str, self._entries))) or "empty"

    async def contains(self, address: str) -> bool:
        """Whether the worker at `address`, host:port, is in the pool."""
        try:
            wanted = _literal(PoolAddress.parse(address))
        except ConfigError:
            return False
        if wanted in self._entries:
            return True
        if not wanted.is_ip or not any(name.may_list(wanted) for name in self._names):
            return False
        if self._knows(wanted) and self._age_s < _FRESH_S:
            return True
        async with self._resolving:
            if self._age_s >= (_FRESH_S if self._knows(wanted) else _PAUSE_S):
                await asyncio.gather(*map(self._look_up, self._names))
                self._resolved_at = self._clock()
        return self._knows(wanted)

    @property
    def _age_s(self) -> float:
        return self._clock() - self._resolved_at

    def _knows(self, wanted: PoolAddress) -> bool:
        return any(wanted in found for found in self._found.values())

    async def _look_up(self, name: PoolEntry) -> None:
        try:
            async with asyncio.timeout(_RESOLVE_S):
                found = await look_up(name, self._resolve)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            log.warning("name not resolved", name=name.name, detail=str(error) or "no answer")
        else:
            self._found[name] = frozenset(map(_literal, found))


def _literal(address: PoolAddress) -> PoolAddress:
    """The address with its host in the one spelling of an IP address, if it is one."""
    return PoolAddress(str(ipaddress.ip_address(address.host)), address.port) if address.is_ip else address
