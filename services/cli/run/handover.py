"""How a worker that gets SIGTERM and `perigee run` agree when the worker ends: the two ends of a socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

_ASK = b"?"


class WorkersEnd:
    """In the worker: asks whether a successor is to come first, and learns when to end. Event loop only."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: of the socket, inherited from `perigee run`."""
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._socket.set_inheritable(False)

    def ask(self) -> None:
        """Says that the worker was asked to end; it goes on until the answer comes."""
        # The other end may be closed already, which is the answer.
        with contextlib.suppress(OSError):
            self._socket.send(_ASK)

    def on_answer(self, end: Callable[[], None]) -> None:
        """Has `end` called when the worker is to end."""
        loop = asyncio.get_running_loop()

        def answered() -> None:
            loop.remove_reader(self._socket)
            end()

        loop.add_reader(self._socket, answered)


class SupervisorsEnd:
    """In `perigee run`, one per start of a worker: `asked` is set when the worker got SIGTERM."""

    def __init__(self) -> None:
        """Event loop only. `theirs` is to be inherited by the worker, and closed here after its start."""
        self._socket, self.theirs = socket.socketpair()
        self._socket.setblocking(False)
        self.asked = asyncio.Event()
        self._open = True
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def answer(self) -> None:
        """Has the worker end, whether it asked or not. Does nothing the second time."""
        if self._open:
            self._read()  # whether it asked must be known by now
            self._close()

    def _read(self) -> None:
        try:
            received = self._socket.recv(1)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if received:
            self.asked.set()
        else:
            self._close()

    def _close(self) -> None:
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
