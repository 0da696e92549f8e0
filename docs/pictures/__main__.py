"""`python -m docs.pictures` writes every picture; `--check` only compares them with their sources."""

from __future__ import annotations

import argparse
import sys

from docs.pictures.drawing import SOURCES, draw


def main() -> int:
    """Returns the exit status: 1 if `--check` finds a picture that its source would not give."""
    parser = argparse.ArgumentParser(prog="python -m docs.pictures", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if one differs")
    checks = parser.parse_args().check
    stale = []
    for source in SOURCES:
        picture = source.with_suffix(".svg")
        svg = draw(source)
        if not checks:
            picture.write_text(svg)
        elif not picture.exists() or picture.read_text() != svg:
            stale.append(picture.name)
    if stale:
        print(f"{', '.join(stale)} differ from their sources: run 'make pictures'.", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
