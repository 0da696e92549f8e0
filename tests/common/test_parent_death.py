from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.waiting import wait_until

CHILD = """
import os, signal, sys
from services.common.parent_death import die_with_parent
die_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
"""
# pause() ends at a signal only.
LASTING_CHILD = CHILD + "signal.pause()"
PARENT = f"""
import os, signal, subprocess, sys
subprocess.Popen([sys.executable, "-c", {LASTING_CHILD!r}, str(os.getpid())])
signal.pause()
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
    wait_until(lambda: has_ended(child), 30)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux offers it")
def test_a_child_whose_parent_is_gone_already_ends_at_once():
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    child = subprocess.run([sys.executable, "-c", LASTING_CHILD, str(gone.pid)], timeout=60, check=False)
    assert child.returncode == -9


def test_the_right_parent_is_no_reason_to_end():
    command = [sys.executable, "-c", CHILD, str(os.getpid())]
    assert subprocess.run(command, timeout=60, check=False, stdout=subprocess.DEVNULL).returncode == 0
