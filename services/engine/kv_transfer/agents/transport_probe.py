"""Which transport UCX chose: read from UCX's own tables if it prints them, else inferred and marked so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

DIRECT_TRANSPORTS = ("rc_verbs", "rc_mlx5", "dc_mlx5", "gga_mlx5", "srd", "cuda_ipc")
"""Those in which no CPU moves the bytes: RDMA devices', and between GPUs of one host CUDA's."""
_RDMA_NAMES = (
    "all",
    "ib",
    "rc",
    "rc_v",
    "rc_x",
    "rc_mlx5",
    "rc_verbs",
    "dc",
    "dc_x",
    "dc_mlx5",
    "gga",
    "srd",
)
_CUDA_IPC_NAMES = ("all", "cuda", "cuda_ipc")
_LANE = re.compile(r"\b([a-z][a-z0-9_]*)/[\w:.-]+")
_RANGE = re.compile(r"^\s*(\d+|\d+\.\.(\d+\w?|inf))\s*\|")


def from_tables(rows: Sequence[str], agent_name: str, to_self: bool) -> tuple[str, bool] | None:
    """(transport, is it direct) of reads by `agent_name`, from the rows of UCX's protocol tables.

    A table has a title row "<agent> <self|intra-node|inter-node> cfg#<n>", a row with its purpose, and one
    row per message size: "<range> | <description> | <lanes>". UCX prints a table once per endpoint
    configuration and names no peer, so several different ones to other agents are reported together. None: no
    table is about this agent.
    """
    lanes: list[tuple[str, str]] = []
    relevant = False
    for row in rows:
        if " cfg#" in row:
            printed, _, scope = row.split(" cfg#")[0].strip().rpartition(" ")
            # UCX cuts names at 31 characters.
            relevant = bool(printed) and agent_name.startswith(printed) and (scope == "self") == to_self
        elif relevant and _RANGE.match(row):
            _, how, last = [*row.split("|"), "", ""][:3]
            lanes += [(name, how.strip()) for name in _LANE.findall(last)]
    if not lanes:
        return None
    transports = sorted({name for name, _ in lanes})
    direct = all(name in DIRECT_TRANSPORTS and "emulation" not in how for name, how in lanes)
    return "+".join(transports), direct


def inferred(environ: Mapping[str, str]) -> tuple[str, bool]:
    """A guess from UCX_TLS, marked as one; never claims RDMA."""
    return f"{environ.get('UCX_TLS', 'ucx')} (inferred)", False


def rdma_obstacle(
    environ: Mapping[str, str], memory_type: str = "DRAM", infiniband: Path = Path("/sys/class/infiniband")
) -> str | None:
    """Why no path of this machine to memory of that type can be direct; None if one can. VRAM has one to the
    other GPUs of its host even without an RDMA device.
    """
    names = environ.get("UCX_TLS", "all")
    listed = {name.strip().lower() for name in names.removeprefix("^").split(",")}
    if memory_type == "VRAM" and bool(listed.intersection(_CUDA_IPC_NAMES)) != names.startswith("^"):
        return None
    if not infiniband.is_dir() or not any(infiniband.iterdir()):
        return "the machine has no RDMA device"
    named = listed.intersection(_RDMA_NAMES)
    excluded = "ib" in named if names.startswith("^") else not named
    return f"UCX_TLS={names} excludes RDMA" if excluded else None
