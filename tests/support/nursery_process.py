"""Forks programs from an interpreter that has loaded their modules. Run as a module, with FD.

FD is a socket; tests/support/nursery.py is its other end. A message starts one program: JSON of `module`,
`arguments` and `environment`, with two file descriptors. One is for the program's output; its process id is
written to the other, and at its end its exit status.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import sys

from services.common.parent_death import die_with_parent

PRELOADED = ("services.decode.main", "services.prefill.main", "services.vision.main", "services.gateway.main")
_MAX_MESSAGE = 1 << 20


def serve(control: socket.socket) -> dict | None:
    """Starts programs until the other end is closed, which also ends them.

    Returns the request in each process that must run a program.
    """
    while True:
        message, descriptors, *_ = socket.recv_fds(control, _MAX_MESSAGE, 2)
        if not message:
            return None
        nursery = os.getpid()
        if os.fork() == 0:
            die_with_parent(nursery)
            control.close()
            return _watch_or_become(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _watch_or_become(request: dict, output: int, status: int) -> dict:
    """Forks the program and returns in it; the parent reports its process id and exit status, and ends with
    it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    watcher = os.getpid()
    child = os.fork()
    if child:
        os.close(output)
        os.write(status, b"%d\n" % child)
        _, wait_status = os.waitpid(child, 0)
        os.write(status, b"%d\n" % os.waitstatus_to_exitcode(wait_status))
        os._exit(0)
    die_with_parent(watcher)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.close(status)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    return request


def _reap(*_: object) -> None:
    """Reaps watchers that have ended, so that their processor time counts as this process's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def run(request: dict) -> None:
    """Like `python -m MODULE ARGUMENTS`, including the end of the interpreter."""
    os.environ.clear()
    os.environ.update(request["environment"])
    random.seed()
    sys.path[1:1] = filter(None, request["environment"].get("PYTHONPATH", "").split(os.pathsep))
    sys.argv[1:] = request["arguments"]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    socket_fd = int(sys.argv[1])
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asked for the programs
    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(fileno=socket_fd) as control_socket:
        wanted = serve(control_socket)
    if wanted is not None:
        run(wanted)
