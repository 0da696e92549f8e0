"""The parts that `python -m kernels.benchmarks.bench_*` and the whole check share."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import triton

from kernels.benchmarks import others
from kernels.benchmarks.case import Cases
from kernels.benchmarks.ceilings import Ceilings
from kernels.benchmarks.check import Check
from kernels.benchmarks.limit import LIMIT_S
from kernels.benchmarks.report import Report, results_of
from kernels.benchmarks.row import Row
from kernels.benchmarks.sizes import Sizes
from kernels.benchmarks.timer import ClockTimer, GraphTimer, Timer

NO_GPU = "not run: torch sees no CUDA device here"


def check_on_gpu(benches: Mapping[str, Cases], seconds: float, results: Path | None) -> int:
    """Checks the first GPU; prints the findings and writes them below `results`. Returns 1 if any
    is wrong.
    """
    properties = torch.cuda.get_device_properties(0)
    device = torch.device("cuda", 0)
    torch.seed()  # fresh inputs each time
    end = time.monotonic() + seconds
    ceilings = Ceilings.measure(GraphTimer(), device)
    directory = None if results is None else results_of(properties.name, results)
    outcome = _Outcome(properties.name, ceilings, Report(directory, "kernels", Row))
    left, sizes = end - time.monotonic(), Sizes(cache_bytes=properties.L2_cache_size)
    return outcome.of(Check(benches, sizes, device, left, 1.0, outcome.save), GraphTimer())


def try_on_cpu(benches: Mapping[str, Cases], seconds: float, results: Path | None) -> int:
    """Like `check_on_gpu`, at tiny sizes in Triton's interpreter: its times mean nothing."""
    device = torch.device("cpu")
    torch.manual_seed(0)
    ceilings = Ceilings.measure(ClockTimer(), device, programs=1, side=64)
    report = Report(results, "kernels", Row)
    outcome = _Outcome("dry run in Triton's interpreter, tiny sizes", ceilings, report)
    # The interpreter truncates to bfloat16 where a GPU rounds.
    return outcome.of(Check(benches, Sizes.tiny(), device, seconds, 2.0, outcome.save), ClockTimer())


def run_script(cases: Cases) -> None:
    """Checks one kernel's cases and prints the findings."""
    if not torch.cuda.is_available():
        print(NO_GPU)
        return
    sys.exit(check_on_gpu({cases.__module__: cases}, LIMIT_S, None))


class _Outcome:
    """The report, which grows with the findings."""

    def __init__(self, device: str, ceilings: Ceilings, report: Report) -> None:
        self._ceilings = ceilings
        self._report = report
        versions = f"torch {torch.__version__}, triton {triton.__version__}"
        self._facts = {
            "device": device,
            "versions": f"{versions}, Python {platform.python_version()}",
            **ceilings.facts,
            "others": others.describe(),
            "limit": "the larger of bytes / reads and flops / products",
            "times": "medians of 20 replays of a CUDA graph",
        }
        self.save(())

    def of(self, check: Check, timer: Timer) -> int:
        """Runs the check and prints its findings; returns the exit status."""
        check.compare()
        check.time(timer, self._ceilings)
        print(self.save(check.rows, complete="yes"))
        return int(check.failed)

    def save(self, rows: Sequence[Row], complete: str = "no") -> str:
        """Writes the findings so far."""
        return self._report.write({**self._facts, "complete": complete}, rows)
