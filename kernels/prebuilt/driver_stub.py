"""A library in place of NVIDIA's driver, to link with where there is none and to load what was linked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from triton.backends import nvidia

NAME = "libcuda.so.1"


def build_stub(directory: Path, *sources: Path) -> Path:
    """Compiles NAME into `directory`. Its functions return 0 and do nothing, except those that `sources`, in
    C, define. Raises RuntimeError without a C compiler, CalledProcessError if it fails.
    """
    header = Path(nvidia.__file__).parent / "include" / "cuda.h"
    functions = sorted(set(re.findall(r"\bcu[A-Z]\w*", header.read_text(encoding="utf-8"))))
    text = "".join(f"__attribute__((weak)) int {name}(void) {{ return 0; }}\n" for name in functions)
    (directory / "functions.c").write_text(text, encoding="utf-8")
    library = directory / NAME
    command = [_compiler(), "-shared", "-fPIC", f"-Wl,-soname,{NAME}", "-o", str(library)]
    subprocess.run([*command, str(directory / "functions.c"), *map(str, sources)], check=True)
    return library


def _compiler() -> str:
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        raise RuntimeError("there is no C compiler: neither gcc nor clang, and CC is not set")
    return found
