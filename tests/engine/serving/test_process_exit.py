"""A process that cannot end by itself is ended."""

from __future__ import annotations

import subprocess
import sys

import pytest

HANGS = """
import sys, threading
{close}
from concurrent.futures import ThreadPoolExecutor
from services.engine.serving.process_exit import exit_within
ThreadPoolExecutor().submit(threading.Event().wait)
exit_within(0.2)
print("main thread ends", flush=True)
"""


@pytest.mark.parametrize("close", ["", "sys.stderr.close()", "sys.stderr = None"])
def test_a_process_that_waits_for_a_thread_at_its_end_is_gone_in_time(close, repository):
    script = HANGS.format(close=close)
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.stdout == "main thread ends\n"
    assert ended.returncode == 1
    assert close or "in wait" in ended.stderr
