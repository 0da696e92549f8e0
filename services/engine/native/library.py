"""Compiles the C sources of this package once per machine, and loads them."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import structlog
from torch import Tensor

from services.engine.native.sources import (
    COMPILERS,
    NO_LOOPS,
    SOURCES,
    find_compiler,
    has_prebuilt,
    library_directory,
    prebuilt,
    source_digest,
)

log = structlog.get_logger()

FLAGS = ("-O3", "-march=native", "-fopenmp", "-ffp-contract=fast", "-shared", "-fPIC")
_COMPILE_TIMEOUT_S = 60.0


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled loops. None, with a line in the log, if there are none: no prebuilt library that runs
    here, and no compiler, no writable directory, or a compiler that fails.
    """
    if has_prebuilt():
        return ctypes.CDLL(str(prebuilt()))
    compiler = find_compiler()
    if compiler is None:
        log.info(f"{NO_LOOPS}: there is no C compiler", tried=COMPILERS)
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning(NO_LOOPS, detail=_detail(error))
        return None


def address(tensor: Tensor) -> ctypes.c_void_p:
    """The address of the first value, as an argument of the loops."""
    return ctypes.c_void_p(tensor.data_ptr())


def _compiled(compiler: str) -> Path:
    """The library's file, compiled if missing. Its name identifies sources, compiler and processor."""
    target = library_directory() / f"{_fingerprint(compiler)}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch) / target.name
            command = [compiler, *FLAGS, "-o", str(made), *map(str, SOURCES), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_TIMEOUT_S)
            made.rename(target)
    return target


def _fingerprint(compiler: str) -> str:
    found = source_digest()
    found.update(repr((FLAGS, os.path.realpath(compiler), _processor())).encode())
    return found.hexdigest()[:32]


def _processor() -> str:
    """What -march=native depends on: machines of several kinds may share a home directory."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _detail(error: Exception) -> str:
    stderr = getattr(error, "stderr", None)
    return f"{error}: {stderr.decode(errors='replace')[-500:]}" if stderr else str(error)
