"""Schedules the integrity checks of an engine's page pool."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from services.common.errors import PerigeeError

log = structlog.get_logger()


class IdleCheck:
    """Runs an integrity check once each time an engine becomes idle; `failures` counts failed checks."""

    def __init__(self, check: Callable[[], None]) -> None:
        """`check` raises a PerigeeError that lists the violations."""
        self._check = check
        self._is_checked = False
        self.failures = 0

    def note_request(self) -> None:
        """Call for every request, because a request may arrive and end between two steps."""
        self._is_checked = False

    def note_step(self, *, idle: bool) -> None:
        """Call after every step. `idle` tells whether the engine has no work left."""
        if idle and not self._is_checked:
            try:
                self._check()
            except PerigeeError as error:
                self.failures += 1
                log.error("page pool integrity", detail=error.message)
        self._is_checked = idle
