"""Steps of several fates: `python -m tests.benchmarks.gpu_first.doubles FATE DIR`."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu_first.findings import Findings


def table(directory: Path, *verdicts: str) -> None:
    """Leaves a table with a row of each verdict."""
    with (directory / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["what", "verdict", "note"])
        writer.writeheader()
        writer.writerows({"what": str(number), "verdict": each} for number, each in enumerate(verdicts))
    (directory / "rows.md").write_text("- device: some GPU\n- reads: 4,000 GB/s: most\n\n| what |\n")


def right(directory: Path) -> int:
    Findings(directory).add(answer=42)
    return 0


def wrong(directory: Path) -> int:
    table(directory, "right", "WRONG")
    print("one of the rows is wrong")
    return 1


def broken(directory: Path) -> int:
    raise RuntimeError("no such page")


def missing(directory: Path) -> int:
    print("not run: nixl not installed\n")
    return 0


def blocked(directory: Path) -> int:
    table(directory, "not run")
    print("not run: NIXL cannot register memory")
    return 0


def dies(directory: Path) -> int:
    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def hangs(directory: Path) -> int:
    """Hangs, and so does a process that it started, which ignores all but SIGKILL."""
    table(directory, "right", "not run")
    deaf = "import signal, time; signal.signal(signal.SIGABRT, signal.SIG_IGN); print('up', flush=True)"
    child = subprocess.Popen([sys.executable, "-c", f"{deaf}; time.sleep(600)"], stdout=subprocess.PIPE)
    child.stdout.readline()
    print(f"child {child.pid}", flush=True)
    time.sleep(600)
    return 0


def leaves_a_child(directory: Path) -> int:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(f"child {child.pid}", flush=True)
    return right(directory)


FATES = {
    fate.__name__: fate for fate in (right, wrong, broken, missing, blocked, dies, hangs, leaves_a_child)
}

if __name__ == "__main__":
    raise SystemExit(FATES[sys.argv[1]](Path(sys.argv[2])))
