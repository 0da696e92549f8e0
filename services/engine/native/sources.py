"""The C sources of this package, and what can compile them. Imports no tensor library."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from pathlib import Path

SOURCES = tuple(
    Path(__file__).with_name(f"{name}.c")
    for name in ("decode_step", "latent_attention", "products", "router", "rows")
)
HEADERS = tuple(Path(__file__).with_name(f"{name}.h") for name in ("loops", "vectors"))
COMPILERS = ("cc", "gcc", "clang")
NO_LOOPS = "no compiled loops"
"""What a worker logs that has none although there is a compiler."""
_REQUIRED = {"x86_64": frozenset(("avx2", "fma"))}
"""Processor features that a library compiled elsewhere requires."""


def find_compiler() -> str | None:
    """The path of the first C compiler of COMPILERS that is installed."""
    return next(filter(None, map(shutil.which, COMPILERS)), None)


def prebuilt() -> Path:
    """The path at which `prebuild.py` puts the library of these sources."""
    return SOURCES[0].with_name(f"loops-{source_digest().hexdigest()[:16]}.so")


def has_prebuilt() -> bool:
    """Whether a library compiled elsewhere is there and this processor can run it."""
    return prebuilt().exists() and _REQUIRED.get(platform.machine(), frozenset()) <= processor_flags()


def source_digest() -> hashlib._Hash:
    """The SHA-256 of all sources."""
    found = hashlib.sha256()
    for source in (*SOURCES, *HEADERS):
        found.update(source.read_bytes())
    return found


def processor_flags() -> set[str]:
    """The features that the kernel lists for the first processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


def library_directory() -> Path:
    """The directory of compiled libraries: in the virtual environment, or where this user can write to none,
    in the user's cache. It is created. Raises OSError.

    It must belong to this user, because its contents are executed.
    """
    in_environment = Path(sys.prefix) / "lib" / "perigee"
    if sys.prefix != sys.base_prefix and os.access(in_environment.parent, os.W_OK):
        return _own(in_environment)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return _own(cache / "perigee")


def _own(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    if directory.stat().st_uid != os.getuid():
        raise PermissionError(f"{directory} belongs to another user")
    return directory
