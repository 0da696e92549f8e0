"""Measures the best that the device reaches: reading memory, and multiplying bfloat16 matrices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from kernels.benchmarks.timer import Timer

_PROGRAMS, _SIDE = 16384, 8192


@triton.jit
def read_kernel(data: tl.tensor, out: tl.tensor, rounds: int, block: tl.constexpr) -> None:
    """Reads `rounds` blocks per program and stores one sum of them."""
    program = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, block)
    total = tl.zeros((block,), tl.float32)
    for step in range(rounds):
        total += tl.load(data + (program * rounds + step) * block + lane)
    tl.store(out + program, tl.sum(total, axis=0))


def measure_reads(timer: Timer, device: torch.device, programs: int = _PROGRAMS) -> float:
    """bytes/s of reading programs x 256 KiB once; by default more than any GPU's cache holds."""
    rounds, block = 16, 4096
    data = torch.ones(programs * rounds * block, device=device)
    out = torch.empty(programs, device=device)

    def read(_: int) -> None:
        read_kernel[(programs,)](data, out, rounds, block=block, num_warps=8)

    return data.nbytes / timer.seconds(read, 1)


@dataclass(frozen=True)
class Ceilings:
    """`bandwidth` bytes/s of reading, `rate` flop/s of bfloat16 products."""

    bandwidth: float
    rate: float

    @classmethod
    def measure(
        cls, timer: Timer, device: torch.device, programs: int = _PROGRAMS, side: int = _SIDE
    ) -> Ceilings:
        """Reads programs x 256 KiB; multiplies square matrices of `side`. The defaults suit a GPU."""
        bandwidth = measure_reads(timer, device, programs)
        left = torch.randn(side, side, device=device).bfloat16()
        right = torch.randn(side, side, device=device).bfloat16()
        rate = 2 * side**3 / timer.seconds(lambda _: left @ right, 1)
        return cls(bandwidth, rate)

    @property
    def facts(self) -> dict[str, str]:
        """Names and values for a report."""
        return {
            "reads": f"{self.bandwidth / 1e9:,.0f} GB/s",
            "bfloat16 products": f"{self.rate / 1e12:,.1f} TFLOP/s",
        }

    def limit_seconds(self, num_bytes: int, flops: int) -> float:
        """The least time for so many bytes and operations."""
        return max(num_bytes / self.bandwidth, flops / self.rate)
