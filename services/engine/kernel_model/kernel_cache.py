"""Where triton finds compiled kernels, and where it keeps those that it compiles."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import structlog
import triton
from triton import knobs

from kernels.prebuilt.cache import DIRECTORY, PrebuiltCache
from services.common.errors import ConfigError

log = structlog.get_logger()


def open_kernel_cache() -> None:
    """Has triton look for kernels in those compiled ahead, which container images have, then in
    TRITON_CACHE_DIR, where it keeps what it compiles itself; every such kernel is logged.

    Sets TRITON_CACHE_DIR if the environment lacks it: triton's own place in $HOME, if that can be written,
    else one in the temporary directory. Raises ConfigError if the directory cannot be written.
    """
    directory = _directory()
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(f"TRITON_CACHE_DIR: {directory} cannot be made: {error}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(f"TRITON_CACHE_DIR: {directory} cannot be written; name a directory for kernels")
    os.environ["TRITON_CACHE_DIR"] = str(directory)
    if DIRECTORY.is_dir():
        knobs.cache.manager_class = PrebuiltCache
        # Triton asks ldconfig where to link with the driver, and fails if there is no answer, also where it
        # links nothing.
        os.environ.setdefault("TRITON_LIBCUDA_PATH", str(DIRECTORY))
    knobs.compilation.listener = _report


def reach_driver() -> None:
    """Loads the module by which triton launches kernels, or compiles it if it is not in the cache. Raises
    ConfigError if that fails: it would fail at the first launch, when the checkpoint has been loaded.
    """
    try:
        _ = triton.runtime.driver.active.utils
    except (RuntimeError, AssertionError, ImportError, OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"device: triton cannot launch kernels: {error}") from error


def _directory() -> Path:
    if chosen := os.environ.get("TRITON_CACHE_DIR"):
        return Path(chosen)
    usual = Path(knobs.cache.dir)
    try:
        usual.mkdir(parents=True, exist_ok=True)
        if os.access(usual, os.W_OK | os.X_OK):
            return usual
    except OSError:
        pass
    # By name, so that the ranks of a group share it.
    own = Path(tempfile.gettempdir()) / f"perigee-triton-{os.getuid()}"
    if own.exists() and own.stat().st_uid != os.getuid():
        raise ConfigError(f"TRITON_CACHE_DIR: {own} belongs to another user, and kernels are executed")
    return own


def _report(*, src: Any, times: Any, cache_hit: bool, **_: Any) -> None:
    if not cache_hit:
        log.info("compiled a kernel", kernel=src.name, seconds=round(times.total / 1e6, 2))
