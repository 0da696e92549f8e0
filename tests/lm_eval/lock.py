"""Writes requirements.txt, the lock file of lm-eval's environment: `python -m tests.lm_eval.lock`.

It pins all that requirements.in brings, with the hash of the file that pip takes here, and holds no address.
Packages that come as source alone would have to be built; no test needs one of them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def main() -> None:
    """Asks pip what it would install."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        wanted = ["--report", report, "--requirement", FOLDER / "requirements.in"]
        subprocess.run([*command, *wanted], check=True)
        chosen = json.loads(report.read_text())["install"]
    pins = sorted(_pin(each) for each in chosen if each["download_info"]["url"].endswith(".whl"))
    head = "# Written by `python -m tests.lm_eval.lock` from requirements.in.\n"
    (FOLDER / "requirements.txt").write_text(head + "".join(pins))


def _pin(chosen: dict[str, Any]) -> str:
    name = re.sub(r"[-_.]+", "-", chosen["metadata"]["name"]).lower()
    digest = chosen["download_info"]["archive_info"]["hashes"]["sha256"]
    return f"{name}=={chosen['metadata']['version']} --hash=sha256:{digest}\n"


if __name__ == "__main__":
    main()
