from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

CHILD = """
import os, sys, time
from services.cli.parent_death import die_with_parent
die_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = f"""
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {CHILD!r}, str(os.getpid())])
time.sleep(60)
"""


def has_ended(pid):
    """Gone, or a zombie that waits for whoever adopted it."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux offers it")
def test_a_child_does_not_outlive_a_parent_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        assert not has_ended(child)
        parent.kill()
    deadline = time.monotonic() + 5
    while not has_ended(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert has_ended(child)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux offers it")
def test_a_child_whose_parent_is_gone_already_ends_at_once():
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    child = subprocess.run([sys.executable, "-c", CHILD, str(gone.pid)], timeout=20, check=False)
    assert child.returncode == -9


def test_the_right_parent_is_no_reason_to_end():
    command = [sys.executable, "-c", CHILD.replace("60", "0"), str(os.getpid())]
    assert subprocess.run(command, timeout=20, check=False, stdout=subprocess.DEVNULL).returncode == 0
