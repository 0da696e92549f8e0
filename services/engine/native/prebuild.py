"""`python -m services.engine.native.prebuild`: compiles the loops for other machines than this one.

The library is stored beside its sources and used if the processor can run it: on x86-64, one with AVX2 and
FMA. Container images use it, because they have no compiler. It has no OpenMP: in an image a worker has one
thread.
"""

from __future__ import annotations

import platform
import subprocess
import sys

from services.engine.native.sources import COMPILERS, SOURCES, find_compiler, prebuilt

_FLAGS = ("-O3", "-ffp-contract=fast", "-shared", "-fPIC")
_MACHINE = {"x86_64": ("-march=x86-64-v3",)}


def main() -> int:
    """Compiles the library; returns the exit status."""
    compiler = find_compiler()
    if compiler is None:
        print(f"there is no C compiler: none of {', '.join(COMPILERS)}", file=sys.stderr)
        return 1
    flags = (*_FLAGS, *_MACHINE.get(platform.machine(), ()))
    subprocess.run([compiler, *flags, "-o", str(prebuilt()), *map(str, SOURCES), "-lm"], check=True)
    print(prebuilt())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
