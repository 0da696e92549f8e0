"""Runs the whole check of the slice, on a GPU or as a trial on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.again import Again
from benchmarks.slice_check import SliceCheck
from benchmarks.slice_logits import Record, SliceLogits
from benchmarks.slice_row import Row
from benchmarks.slice_sizes import KIMI, TINY, Limits, Sizes
from benchmarks.slice_times import SliceTimes
from kernels.benchmarks.ceilings import Ceilings
from kernels.benchmarks.report import Report, results_of
from kernels.benchmarks.timer import ClockTimer, GraphTimer
from services.engine.kernel_model.decode_graphs import CudaGraph


@dataclass(frozen=True)
class SlicePlan:
    """Which of the parts "logits" and "times"; `seconds` after which no row begins; where a trace goes."""

    parts: Sequence[str]
    seconds: float
    trace: Path | None = None


def check_on_gpu(results: Path, plan: SlicePlan) -> int:
    """Checks the first GPU; prints the findings and writes them below `results`. Returns 1 if any
    is wrong.
    """
    if not torch.cuda.is_available():
        print("layer slice: not run: torch sees no CUDA device here")
        return 0
    device, name = torch.device("cuda", 0), torch.cuda.get_device_name()
    ceilings = Ceilings.measure(GraphTimer(), device)
    return _check(Sizes(KIMI), device, CudaGraph, ceilings, name, results_of(name, results), plan)


def try_on_cpu(results: Path | None, plan: SlicePlan) -> int:
    """Like `check_on_gpu`, at tiny sizes in Triton's interpreter: its times mean nothing."""
    device, name = torch.device("cpu"), "dry run in Triton's interpreter, tiny sizes"
    ceilings = Ceilings.measure(ClockTimer(), device, programs=1, side=64)
    return _check(TINY, device, Again, ceilings, name, results, plan)


def _check(
    sizes: Sizes,
    device: torch.device,
    record: Record,
    ceilings: Ceilings,
    name: str,
    directory: Path | None,
    plan: SlicePlan,
) -> int:
    report = Report(directory, "layer_slice", Row)
    facts = {
        "device": name,
        "torch": torch.__version__,
        **ceilings.facts,
        "logits": f"with {sizes.few} experts a layer, against plain PyTorch in float32",
    }

    def save(rows: Sequence[Row], complete: str = "no") -> str:
        return report.write({**facts, "complete": complete}, rows)

    limits = Limits(sizes.config, ceilings)
    check = SliceCheck(plan.seconds, save)
    with torch.inference_mode():
        if "logits" in plan.parts:
            check.run("logits", SliceLogits(sizes, device, record).cases())
        if "times" in plan.parts:
            check.run("times", SliceTimes(sizes, device, record, limits, plan.trace).cases())
    print(save(check.rows, complete="yes"))
    return int(check.failed)
