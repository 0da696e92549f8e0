"""`python -m monitoring.dashboards` writes the JSON of every dashboard; `--check` only compares it."""

from __future__ import annotations

import argparse
import sys

from monitoring.dashboards.files import FILES


def main() -> int:
    """Returns the exit status: 1 if `--check` finds a file that differs from its description."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.dashboards", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if one differs")
    checks = parser.parse_args().check
    stale = []
    for path, dashboard in FILES.items():
        if not checks:
            path.write_text(dashboard.json())
        elif not path.exists() or path.read_text() != dashboard.json():
            stale.append(path.name)
    if stale:
        print(f"{', '.join(stale)} differ from their descriptions: run 'make dashboards'.", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
