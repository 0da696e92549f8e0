"""What a check raises when it does not hold."""

from __future__ import annotations


class Failed(Exception):
    """The message says what was found."""


def expect(holds: object, found: str) -> None:
    """Raises Failed with what was found unless something holds."""
    if not holds:
        raise Failed(found)
