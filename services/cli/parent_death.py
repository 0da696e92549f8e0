"""No orphans: a child asks the kernel to be killed when its parent is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Kills this process when process `parent`, which started it, ends in whatever way. Linux only.

    The child asks for itself: asking between fork and exec would run Python in a copy of a threaded process.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # The parent may have died before the request was made.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
