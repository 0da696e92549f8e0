"""`python -m docs.pictures` writes every picture; `--check` only compares them with their sources."""

from __future__ import annotations

import argparse
import sys

from docs.pictures.drawing import SOURCES, draw
from scripts.generated import differing


def main() -> int:
    """Returns the exit status: 1 if `--check` finds a picture that its source would not give."""
    parser = argparse.ArgumentParser(prog="python -m docs.pictures", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if one differs")
    checks = parser.parse_args().check
    found = differing({source.with_suffix(".svg"): draw(source) for source in SOURCES}, write=not checks)
    if not checks or not found:
        return 0
    names = ", ".join(path.name for path in found)
    print(f"{names} differ from their sources: run 'make pictures'.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
