"""Writes requirements.txt, the lock file of lm-eval's environment: `python -m tests.lm_eval.lock`.

No test needs a package that comes as source alone.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.locked_packages import write_lock

if __name__ == "__main__":
    write_lock(Path(__file__).parent, "python -m tests.lm_eval.lock", wheels_alone=False)
