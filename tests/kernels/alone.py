"""Runs a part of the check where nothing is installed but what the wheels of torch and triton bring."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

_HAVE = {
    "filelock",
    "fsspec",
    "functorch",
    "jinja2",
    "kernels",
    "markupsafe",
    "mpmath",
    "networkx",
    "numpy",
    "sympy",
    "torch",
    "torchgen",
    "triton",
    "typing_extensions",
}
_PROGRAM = """
import runpy
import sys
from importlib.machinery import PathFinder

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        name = fullname.partition(".")[0]
        known = name in HAVE or name in sys.stdlib_module_names or name.startswith("_")
        return super().find_spec(fullname, path, target) if known else None

sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def run_alone(
    module: str, besides: Collection[str] = (), *arguments: str
) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments`, where the top-level modules `besides` can be imported, too."""
    program = f"HAVE = {sorted(_HAVE | set(besides))}\n{_PROGRAM}"
    words = [sys.executable, "-c", program, module, *arguments]
    root = Path(__file__).parents[2]
    return subprocess.run(words, cwd=root, capture_output=True, text=True, timeout=240)
