"""Runs all benchmarks that need only this machine, or the named ones.

python -m benchmarks [--out DIR] [NAME ...]

Each prints its table and writes DIR/NAME.json. The last lines show which bounds are held; exits with 1 if one
is not. The others' engines and gateways take part if `python -m benchmarks.peers` has installed them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

BENCHMARKS = (
    "routing",
    "host_time",
    "kv_transfer",
    "throttled_link",
    "gateways",
    "multi_turn",
    "interference",
    "scaling",
    "cpu_engine",
)


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--out", type=Path, default=Path(".run/benchmarks"))
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    held = {}
    for name in options.names or BENCHMARKS:
        print(f"== {name}", flush=True)
        words = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(options.out / f"{name}.json")]
        held[name] = subprocess.run(words).returncode == 0
    for name, well in held.items():
        print(f"{name}: {'bounds held' if well else 'a bound is not held, or it failed'}")
    return int(not all(held.values()))


if __name__ == "__main__":
    raise SystemExit(main())
