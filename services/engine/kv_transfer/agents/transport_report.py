"""Reports on a data path: its transport, its speed and whether it is RDMA."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TransportReport:
    """Which transport moves the bytes, and how fast it moved the probe.

    `transport` names UCX's lanes, e.g. "cma", "tcp", "rc_mlx5", with " (inferred)" if UCX did not report
    them; "in-memory" for the test double. `gigabytes_per_second` is 1e9 bytes per second, measured once by
    reading the probe. `rdma` is True only when no CPU moves a byte: a remote-DMA device does or, between GPUs
    of one host, CUDA (cuda_ipc).
    """

    transport: str
    gigabytes_per_second: float
    rdma: bool


@dataclass(frozen=True)
class PathReport:
    """Result of reading a peer's probe several times; the bytes of every round had the checksum `crc32`.

    `transport` holds the best speed of a single round, without checksums; `bytes` were read over all rounds
    in `seconds`, checksums included.
    """

    transport: TransportReport
    bytes: int
    crc32: int
    seconds: float
