"""`python -m kernels.gpu_check`: is every kernel right on this GPU, and how near to its limit?

Needs torch, triton and one GPU; neither the network nor any file but these. Results go to
`kernels/benchmarks/results/<gpu>/`.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# From those that others are made of, to the slowest.
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
RESULTS = Path(__file__).parent / "benchmarks" / "results"
LIMIT_S = 480.0
# A case may take so long after the time for new ones is up.
_LAST_CASE_S = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """0: all right, or not run, which it says with the reason; 1: something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m kernels.gpu_check", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes in Triton's interpreter, no GPU")
    parser.add_argument(
        "--results", type=Path, default=None, help="where to write, instead of beside the code"
    )
    options = parser.parse_args(argv)
    if options.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
    missing = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"gpu-check-kernels: not run: {' and '.join(missing)} not installed")
        return 0
    # Late, because it imports triton.
    script = importlib.import_module("kernels.benchmarks.script")
    benches = {name: importlib.import_module(f"kernels.benchmarks.bench_{name}").cases for name in BENCHES}
    seconds = LIMIT_S - _LAST_CASE_S
    if options.dry_run:
        return int(script.try_on_cpu(benches, seconds, options.results))
    if not script.torch.cuda.is_available():
        print(f"gpu-check-kernels: {script.NO_GPU}")
        return 0
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)  # a kernel that hangs
    return int(script.check_on_gpu(benches, seconds, options.results or RESULTS))


if __name__ == "__main__":
    sys.exit(main())
