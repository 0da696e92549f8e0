"""Range checks of settings, shared by all roles."""

from __future__ import annotations

from typing import Literal, TypeAlias

from services.common.errors import ConfigError

AUTO: Literal["auto"] = "auto"
"""The value of a setting that the service chooses when it starts."""
AutoCount: TypeAlias = int | Literal["auto"]
AutoSeconds: TypeAlias = float | Literal["auto"]

# A week: longer than any wait here, and in milliseconds still within gRPC's range.
MOST_SECONDS = 604_800.0
_LEAST_SECONDS = 0.001
MOST_COUNT = 2**31 - 1
"""What a count can be in a message."""
MOST_BYTES = 2**40
MOST_THREADS = 1024
"""The most threads or processes: more is a mistake, and a machine that starts them stands still."""


def check_seconds(config: object, *keys: str, or_zero: bool = False) -> None:
    """Raises ConfigError for a setting in `keys` that is not between a millisecond and a week; AUTO is
    allowed.

    `or_zero`: 0 is allowed too.
    """
    for key in keys:
        value: AutoSeconds = getattr(config, key)
        if value == AUTO:
            continue
        if not _LEAST_SECONDS <= value <= MOST_SECONDS and not (or_zero and value == 0):
            least = 0 if or_zero else _LEAST_SECONDS
            raise ConfigError(f"{key}: must be {least:g} to {MOST_SECONDS:.0f} seconds, is {value:g}")


def check_counts(config: object, *keys: str, least: int = 1, most: int = MOST_COUNT) -> None:
    """Raises ConfigError for a setting in `keys` that is not `least` to `most`; None and AUTO (the role
    chooses) are allowed.
    """
    for key in keys:
        value: AutoCount | None = getattr(config, key)
        if value is not None and value != AUTO and not least <= value <= most:
            raise ConfigError(f"{key}: must be {least:,} to {most:,}, is {value:,}")


def check_ports(config: object, *keys: str) -> None:
    """Raises ConfigError for a setting in `keys` that is not a port; 0 (any free port) is allowed."""
    for key in keys:
        value: int = getattr(config, key)
        if not 0 <= value < 65536:
            raise ConfigError(f"{key}: {value} is not a port; one is 1 to 65535, and 0 picks a free one")
