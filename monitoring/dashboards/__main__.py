"""`python -m monitoring.dashboards` writes the JSON of every dashboard; `--check` only compares it."""

from __future__ import annotations

import argparse
import sys

from monitoring.dashboards.files import FILES
from scripts.generated import differing


def main() -> int:
    """Returns the exit status: 1 if `--check` finds a file that differs from its description."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if one differs")
    checks = parser.parse_args().check
    found = differing({path: dashboard.json() for path, dashboard in FILES.items()}, write=not checks)
    if not checks or not found:
        return 0
    names = ", ".join(path.name for path in found)
    print(f"{names} differ from their descriptions: run 'make dashboards'.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
