"""Whether a finished call may be released."""

from __future__ import annotations

from collections.abc import Callable

from services.common.errors import InvalidToolCall
from services.gateway.constraint.call_checks import CallChecks


class CallValidator:
    """The CallCheck of one request: of calls whose schema says more than the grammar could enforce."""

    def __init__(self, checks: CallChecks, on_refused: Callable[[], None]) -> None:
        """`on_refused` is called for each call that is refused."""
        self._checks = checks
        self._on_refused = on_refused

    def __call__(self, name: str, arguments: str) -> bool:
        """True; raises InvalidToolCall for a call that is not valid under its schema."""
        if complaint := self._checks.complaint(name, arguments):
            self._on_refused()
            raise InvalidToolCall(f"the model's call of {name} is not valid: {complaint}")
        return True
