"""`python -m kernels.gpu_check`: checks every kernel on this GPU, and times it against the hardware's limit.

Needs torch, triton and one GPU; no network, and no files but those of `kernels/`. Writes results to
`kernels/benchmarks/results/<gpu>/` as they come, so that a kernel that hangs loses no other results.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kernels.benchmarks.limit import ROWS_S, time_limit
from kernels.benchmarks.report import RESULTS
from kernels.benchmarks.wheels import not_installed

# Ordered from basic building blocks to the slowest.
BENCHES = (
    "rms_norm",
    "silu_mul",
    "rope",
    "latent_store",
    "router",
    "expert_alignment",
    "page_copy",
    "mla_decode",
    "mla_prefill",
    "experts",
    "sampling",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 if all is right or nothing was run (printed with the reason), 1 if something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m kernels.gpu_check", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes in Triton's interpreter, no GPU")
    parser.add_argument(
        "--results", type=Path, default=None, help="where to write, instead of beside the code"
    )
    parser.add_argument(
        "--kernels",
        nargs="+",
        choices=BENCHES,
        default=BENCHES,
        metavar="NAME",
        help=f"of {', '.join(BENCHES)}",
    )
    parser.add_argument("--seconds", type=float, default=ROWS_S, help="begin no new row after so long")
    options = parser.parse_args(argv)
    if options.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
    if reason := not_installed("torch", "triton"):
        print(f"gpu check: not run: {reason}")
        return 0
    with time_limit():
        return _check(options.dry_run, options.kernels, options.seconds, options.results)


def _check(dry_run: bool, names: Sequence[str], seconds: float, results: Path | None) -> int:
    # Imported late, because it imports triton.
    script = importlib.import_module("kernels.benchmarks.script")
    benches = {name: importlib.import_module(f"kernels.benchmarks.bench_{name}").cases for name in names}
    if dry_run:
        return int(script.try_on_cpu(benches, seconds, results))
    if not script.torch.cuda.is_available():
        print(f"gpu check: {script.NO_GPU}")
        return 0
    return int(script.check_on_gpu(benches, seconds, results or RESULTS))


if __name__ == "__main__":
    sys.exit(main())
