"""Prevents orphans: a child asks the kernel to kill it when its parent ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Makes the kernel kill this process when its parent process `parent` ends for any reason. Linux only.

    The child calls this itself: a call between fork and exec would run Python in a fork of a threaded
    process.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # The parent may have died before prctl took effect.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
