"""A process's resident memory as the kernel counts it, including pages of mapped files."""

from __future__ import annotations

from pathlib import Path


def resident_bytes(process: int | str = "self") -> int:
    """Returns the present resident memory in bytes."""
    return _status("VmRSS", process)


def peak_resident_bytes(process: int | str = "self") -> int:
    """Returns the highest resident memory so far in bytes."""
    return _status("VmHWM", process)


def _status(key: str, process: int | str) -> int:
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/{process}/status has no {key}")
