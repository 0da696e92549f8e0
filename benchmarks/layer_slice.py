"""Measures how close decode steps and prefill of a slice of Kimi-K2.5 come to a GPU's limits.

python -m benchmarks.layer_slice [--part logits|times] [--trace FILE] [--dry-run] [--results DIR]

The slice is one dense and three MoE layers at full width with random weights, int4 experts. First its logits,
at full width with fewer experts, are compared with the model in plain PyTorch, in fast and in deterministic
mode. Then decode steps run as CUDA graphs for many batches and contexts, and prompts in chunks. Limits are
the larger of bytes / measured reads and operations / measured bfloat16 products. --trace writes a profiler's
trace of a decode step and a prefill. Writes `layer_slice.csv` and
`layer_slice.md` row by row; exits with 1 if something is wrong. Without a GPU it prints "not run".
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

from kernels.benchmarks.limit import ROWS_S, time_limit
from kernels.benchmarks.report import RESULTS
from kernels.benchmarks.wheels import not_installed

PARTS = ("logits", "times")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layer_slice", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes in Triton's interpreter, no GPU")
    parser.add_argument("--results", type=Path, default=None, help="where to write, not beside the kernels")
    parser.add_argument("--part", choices=PARTS, default=None, help="one of the two")
    parser.add_argument("--seconds", type=float, default=ROWS_S, help="begin no new row after so long")
    parser.add_argument("--trace", type=Path, default=None, help="a file that ends with .json.gz")
    options = parser.parse_args(argv)
    if options.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
    if reason := not_installed("torch", "triton", "structlog"):
        print(f"layer slice: not run: {reason}")
        return 0
    with time_limit():
        # Imported late, because it imports triton.
        script = importlib.import_module("benchmarks.slice_script")
        parts = PARTS if options.part is None else (options.part,)
        plan = script.SlicePlan(parts, options.seconds, options.trace)
        if options.dry_run:
            return int(script.try_on_cpu(options.results, plan))
        return int(script.check_on_gpu(options.results or RESULTS, plan))


if __name__ == "__main__":
    sys.exit(main())
