"""The directory of a suite's logs, locked by one suite at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.errors import ConfigError

_LOCK = "lock"
# `holder` has the lock for an instant: whoever wants it tries again.
_ATTEMPTS = 10
_PAUSE_S = 0.02


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


def holder(directory: Path) -> int | None:
    """Returns the process that has locked the directory; None if none has."""
    try:
        lock = os.open(directory / _LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        owner = _owner(lock)
        return int(owner) if owner.isdecimal() else None
    finally:
        os.close(lock)
    return None


def _take(directory: Path, lock: int) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as error:
            if attempt < _ATTEMPTS - 1:
                time.sleep(_PAUSE_S)
                continue
            raise ConfigError(
                f"run_dir: a suite (process {_owner(lock) or 'unknown'}) is running with its logs in"
                f" {directory}; stop it, or name another directory with --run-dir, and ports of its own"
            ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _owner(lock: int) -> str:
    return os.pread(lock, 20, 0).decode(errors="replace").strip()
