"""The directory of a suite's logs, which one suite at a time has."""

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
    """Makes the directory and has it to itself for the length of the block.

    Raises ConfigError where another process has it, naming that one, and where it cannot be made. The kernel
    frees it with the process that has it, however that ends.
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
