"""The directory of a suite's logs, locked by one suite at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.errors import ConfigError

_LOCK = "lock"


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Creates the directory and locks it for the duration of the block.

    Raises ConfigError if it cannot be created, or if another process has locked it, naming that process. The
    kernel releases the lock when the process ends for any reason.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(f"run_dir: {directory} cannot be used: {error.strerror}") from error
    try:
        _take(directory, lock)
        yield
    finally:
        os.close(lock)


def _take(directory: Path, lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
        raise ConfigError(
            f"run_dir: a suite (process {owner}) is running with its logs in {directory}; stop it, or name "
            "another directory with --run-dir, and ports of its own"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
