"""Checks that the operating system lets this process register its memory for RDMA, which locks it."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path

from services.common.errors import ConfigError
from services.engine.kv_transfer.agents.region import Region

_QUEUES_BYTES = 64 << 20
"""What queues and buffers of UCX lock beside the regions."""
_CAP_IPC_LOCK = 14


def check_locked_memory(regions: Sequence[Region]) -> None:
    """Raises ConfigError, which names the remedy, if the regions in host memory are more than RLIMIT_MEMLOCK
    lets this process lock. Memory of a GPU does not count there.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY or _ignores_limits():
        return
    needed = _QUEUES_BYTES + sum(each.total_bytes for each in regions if each.memory_type == "DRAM")
    if needed > limit:
        raise ConfigError(
            f"expected_transport: RDMA locks {needed:,} bytes of memory here, and RLIMIT_MEMLOCK allows"
            f" {limit:,}: set LimitMEMLOCK=infinity for the node's container runtime (containerd, docker), or"
            " memlock in its ulimits, and start it again; the capability IPC_LOCK does nothing for a process"
            " that is not root"
        )


def _ignores_limits(status: Path = Path("/proc/self/status")) -> bool:
    """Whether the process has the effective capability IPC_LOCK, as root may: then it has no limit."""
    found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("CapEff:")]
    return any(int(bits, 16) >> _CAP_IPC_LOCK & 1 for bits in found)
