"""Compiles the C sources of this package once per machine, and loads them."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import structlog
from torch import Tensor

log = structlog.get_logger()

SOURCES = tuple(
    Path(__file__).with_name(f"{name}.c")
    for name in ("decode_step", "latent_attention", "products", "router", "rows")
)
HEADERS = tuple(Path(__file__).with_name(f"{name}.h") for name in ("loops", "vectors"))
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-ffp-contract=fast", "-shared", "-fPIC")
_COMPILE_TIMEOUT_S = 60.0
_REQUIRED = {"x86_64": frozenset(("avx2", "fma"))}
"""Processor features that a library compiled elsewhere requires."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled loops. None, with a line in the log, if there are none: no prebuilt library that runs
    here, and no compiler, no writable directory, or a compiler that fails.
    """
    if prebuilt().exists() and _REQUIRED.get(platform.machine(), frozenset()) <= _processor_flags():
        return ctypes.CDLL(str(prebuilt()))
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        log.info("no compiled loops: there is no C compiler", tried=COMPILERS)
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("no compiled loops", detail=_detail(error))
        return None


def prebuilt() -> Path:
    """The path at which `prebuild.py` puts the library of these sources."""
    return SOURCES[0].with_name(f"loops-{_sources().hexdigest()[:16]}.so")


def address(tensor: Tensor) -> ctypes.c_void_p:
    """The address of the first value, as an argument of the loops."""
    return ctypes.c_void_p(tensor.data_ptr())


def _compiled(compiler: str) -> Path:
    """The library's file, compiled if missing. Its name identifies sources, compiler and processor."""
    target = _cache() / f"{_fingerprint(compiler)}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            made = Path(scratch) / target.name
            command = [compiler, *FLAGS, "-o", str(made), *map(str, SOURCES), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_TIMEOUT_S)
            made.rename(target)
    return target


def _cache() -> Path:
    """A directory that must belong to this user, because its contents are executed."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = base / "perigee"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if directory.stat().st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to another user")
    return directory


def _fingerprint(compiler: str) -> str:
    found = _sources()
    found.update(repr((FLAGS, os.path.realpath(compiler), _processor())).encode())
    return found.hexdigest()[:32]


def _sources() -> hashlib._Hash:
    found = hashlib.sha256()
    for source in (*SOURCES, *HEADERS):
        found.update(source.read_bytes())
    return found


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


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
