"""How long a service may take to start: as long as reading its checkpoint can take."""

from __future__ import annotations

from pathlib import Path

from services.engine.weights.headers import shard_names

LEAST_BYTES_PER_S = 200_000_000
"""The slowest reading that is waited for."""
BASE_S = 300.0
"""Seconds for everything else: imports, compiling, recording, testing the transport."""


def checkpoint_bytes(directory: Path) -> tuple[int, int]:
    """The number of shards, and their bytes; absent ones count nothing: the services say what is missing."""
    paths = [directory / name for name in shard_names(directory)]
    sizes = [path.stat().st_size for path in paths if path.is_file()]
    return len(sizes), sum(sizes)


def start_patience(directory: Path) -> float:
    """Seconds until a service that is not healthy counts as failed."""
    _, nbytes = checkpoint_bytes(directory)
    return BASE_S + nbytes / LEAST_BYTES_PER_S
