"""When an engine checks its page pool."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from services.common.errors import PerigeeError

log = structlog.get_logger()


class IdleCheck:
    """Runs an integrity check once whenever an engine falls idle; `failures` counts those that failed."""

    def __init__(self, check: Callable[[], None]) -> None:
        """`check` raises a PerigeeError that lists what is wrong."""
        self._check = check
        self._is_checked = False
        self.failures = 0

    def note_request(self) -> None:
        """Call for every request: it may come and end between two steps."""
        self._is_checked = False

    def note_step(self, *, idle: bool) -> None:
        """Call after every step. `idle`: the engine has nothing to do."""
        if idle and not self._is_checked:
            try:
                self._check()
            except PerigeeError as error:
                self.failures += 1
                log.error("page pool integrity", detail=error.message)
        self._is_checked = idle
