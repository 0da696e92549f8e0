"""What `python -m kernels.benchmarks.bench_*` and the whole check share."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import triton

from kernels.benchmarks import others
from kernels.benchmarks.case import Cases
from kernels.benchmarks.ceilings import Ceilings
from kernels.benchmarks.check import Check
from kernels.benchmarks.report import write_report
from kernels.benchmarks.sizes import Sizes
from kernels.benchmarks.timer import ClockTimer, GraphTimer

NO_GPU = "not run: torch sees no CUDA device here"


def check_on_gpu(benches: Mapping[str, Cases], seconds: float, results: Path | None) -> int:
    """Prints, and writes below `results`, what the first GPU shows; 1 where something is wrong."""
    properties = torch.cuda.get_device_properties(0)
    device = torch.device("cuda", 0)
    torch.seed()  # fresh inputs each time
    ceilings = Ceilings.measure(GraphTimer(), device, programs=16384, side=8192)
    check = Check(benches, Sizes(cache_bytes=properties.L2_cache_size), device, seconds, slack=1.0)
    check.compare()
    check.time(GraphTimer(), ceilings)
    directory = None if results is None else results / properties.name.lower().replace(" ", "-")
    return _report(check, ceilings, properties.name, directory)


def try_on_cpu(benches: Mapping[str, Cases], seconds: float, results: Path | None) -> int:
    """The same way at tiny sizes in Triton's interpreter: the times mean nothing."""
    device = torch.device("cpu")
    torch.manual_seed(0)
    ceilings = Ceilings.measure(ClockTimer(), device, programs=1, side=64)
    # The interpreter truncates to bfloat16 where a GPU rounds.
    check = Check(benches, Sizes.tiny(), device, seconds, slack=2.0)
    check.compare()
    check.time(ClockTimer(), ceilings)
    return _report(check, ceilings, "dry run in Triton's interpreter, tiny sizes", results)


def run_script(cases: Cases) -> None:
    """One kernel's cases alone, printed."""
    if not torch.cuda.is_available():
        print(NO_GPU)
        return
    sys.exit(check_on_gpu({cases.__module__: cases}, 480.0, None))


def _report(check: Check, ceilings: Ceilings, device: str, directory: Path | None) -> int:
    python = platform.python_version()
    facts = {
        "device": device,
        "versions": f"torch {torch.__version__}, triton {triton.__version__}, Python {python}",
        "reads": f"{ceilings.bandwidth / 1e9:,.0f} GB/s",
        "bfloat16 products": f"{ceilings.rate / 1e12:,.1f} TFLOP/s",
        "others": others.describe(),
        "limit": "the larger of bytes / reads and flops / products; times are medians of 20 graph replays",
    }
    print(write_report(directory, facts, check.rows))
    return int(check.failed)
