"""Whether a second copy of a worker fits beside it: in memory, and on the GPUs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from services.cli.process_memory import peak_resident_bytes

_ROOT = Path("/")
_SPARE = 1.1
"""The kernel needs some memory for itself while it makes room."""
_GPU_QUERY = ("--query-gpu=memory.used,memory.free", "--format=csv,noheader,nounits")
_GPU_TIMEOUT_S = 10.0
_MB = 1 << 20


def why_no_room(pid: int, device: str, env: Mapping[str, str]) -> str | None:
    """Returns why a worker like `pid`, which computes on `device`, has no room; None if it has. Blocks."""
    return _why_no_memory(pid) or (_why_no_gpu_memory(env) if device.startswith("cuda") else None)


def available_bytes(root: Path = _ROOT) -> int:
    """Returns the memory that programs can still get on this machine and in this control group."""
    [free] = (line.split()[1] for line in _lines(root / "proc/meminfo") if line.startswith("MemAvailable:"))
    return min([int(free) * 1024, *_left_in_groups(root)])


def _why_no_memory(pid: int) -> str | None:
    try:
        # Every process counts the pages that they share: an error to the safe side.
        needed = sum(map(peak_resident_bytes, _with_descendants(pid)))
    except (OSError, LookupError):
        return None  # it has just ended, so it needs nothing
    available = available_bytes()
    if needed * _SPARE <= available:
        return None
    return f"it took up to {needed // _MB} MB, and {available // _MB} MB are available"


def _why_no_gpu_memory(env: Mapping[str, str]) -> str | None:
    """Wants as much free memory on each GPU as is in use there, which includes the worker."""
    visible = env.get("CUDA_VISIBLE_DEVICES", "")
    command = ["nvidia-smi", *_GPU_QUERY, *(["-i", visible] if visible else [])]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_GPU_TIMEOUT_S, check=True)
        for line in answer.stdout.splitlines():
            used, free = map(int, line.split(","))
            if free < used:
                return f"{used} MB of a GPU are in use and {free} MB free"
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return f"nvidia-smi does not say what is free on the GPU ({type(error).__name__})"
    return None


def _with_descendants(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _with_descendants(int(child))


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yields what is left in this process's control group (version 2) and those above it, if limited."""
    top = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        if not line.startswith("0::/"):
            continue
        group = top / line.removeprefix("0::/")
        for directory in (group, *(each for each in group.parents if each.is_relative_to(top))):
            limit = "".join(_lines(directory / "memory.max"))
            if limit.isdecimal():
                yield int(limit) - _used_in_group(directory)


def _used_in_group(directory: Path) -> int:
    """Returns the bytes in use, without cached pages of files: they are given up when programs need them."""
    stat = dict(line.split() for line in _lines(directory / "memory.stat"))
    return int("".join(_lines(directory / "memory.current")) or 0) - int(stat.get("inactive_file", 0))


def _lines(path: Path) -> list[str]:
    """Returns the file's lines; none if there is no such file."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
