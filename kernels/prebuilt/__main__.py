"""Compiles every kernel of Kimi-K2.5 on eight GPUs for H100, H200, B200 and B300, without a GPU, with the
installed triton. Container images do so, because they have no C compiler. Does nothing without triton.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status; raises RuntimeError without a C compiler."""
    parser = argparse.ArgumentParser(prog="python -m kernels.prebuilt", description=__doc__)
    parser.add_argument("--directory", type=Path, help="default: within this package, where workers look")
    parser.add_argument("--capability", type=int, nargs="*", help="90 is 9.0; default: all")
    parser.add_argument("--case", action="append", help="only the cases whose names contain this word")
    options = parser.parse_args(argv)
    # A CPU build of torch comes without it.
    if importlib.util.find_spec("triton") is None:
        print("triton is not installed: nothing to compile")
        return 0
    from kernels.launch import CAPABILITIES
    from kernels.machine_code.cases import cases
    from kernels.prebuilt.build import fill
    from kernels.prebuilt.cache import DIRECTORY

    words = options.case or [""]
    chosen = [case for case in cases() if any(word in case.name for word in words)]
    directory = (options.directory or DIRECTORY).resolve()
    capabilities = options.capability or [10 * major + minor for major, minor in CAPABILITIES]
    count = fill(directory, chosen, capabilities)
    print(f"{count} kernels for compute capabilities {capabilities} in {directory}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
