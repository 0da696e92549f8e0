"""Bounds of settings that every role checks alike."""

from __future__ import annotations

from services.common.errors import ConfigError

# A week: longer than anything here should wait, and in milliseconds still a number that gRPC takes.
MOST_SECONDS = 604_800.0
_LEAST_SECONDS = 0.001


def check_seconds(config: object, *keys: str, or_zero: bool = False) -> None:
    """Raises ConfigError for a setting in `keys` that is no time from a millisecond to a week.

    `or_zero`: no time at all is one too.
    """
    for key in keys:
        value: float = getattr(config, key)
        if not _LEAST_SECONDS <= value <= MOST_SECONDS and not (or_zero and value == 0):
            least = 0 if or_zero else _LEAST_SECONDS
            raise ConfigError(f"{key}: must be {least:g} to {MOST_SECONDS:.0f} seconds, is {value:g}")
