"""Runs the whole check of the slice, on a GPU or as a trial on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from benchmarks.slice_check import SliceCheck
from benchmarks.slice_logits import Record, SliceLogits
from benchmarks.slice_row import Row
from benchmarks.slice_sizes import KIMI, TINY, Limits, Sizes
from benchmarks.slice_times import SliceTimes
from kernels.benchmarks.ceilings import Ceilings
from kernels.benchmarks.limit import LAST_ROW_S, LIMIT_S
from kernels.benchmarks.report import Report, results_of
from kernels.benchmarks.timer import ClockTimer, GraphTimer
from services.engine.kernel_model.decode_graphs import CudaGraph


def check_on_gpu(results: Path) -> int:
    """Checks the first GPU; prints the findings and writes them below `results`. Returns 1 if any
    is wrong.
    """
    if not torch.cuda.is_available():
        print("layer slice: not run: torch sees no CUDA device here")
        return 0
    device, name = torch.device("cuda", 0), torch.cuda.get_device_name()
    ceilings = Ceilings.measure(GraphTimer(), device)
    return _check(Sizes(KIMI), device, CudaGraph, ceilings, name, results_of(name, results))


def try_on_cpu(results: Path | None) -> int:
    """Like `check_on_gpu`, at tiny sizes in Triton's interpreter: its times mean nothing."""
    device, name = torch.device("cpu"), "dry run in Triton's interpreter, tiny sizes"
    ceilings = Ceilings.measure(ClockTimer(), device, programs=1, side=64)
    return _check(TINY, device, _Again, ceilings, name, results)


class _Again:
    """Replaces a graph where there is no GPU: runs the computation again."""

    def __init__(self, compute: Callable[[], None]) -> None:
        self.replay = compute


def _check(
    sizes: Sizes, device: torch.device, record: Record, ceilings: Ceilings, name: str, directory: Path | None
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

    check = SliceCheck(LIMIT_S - LAST_ROW_S, save)
    with torch.inference_mode():
        check.run("logits", SliceLogits(sizes, device, record).cases())
        check.run("times", SliceTimes(sizes, device, record, Limits(sizes.config, ceilings)).cases())
    print(save(check.rows, complete="yes"))
    return int(check.failed)
