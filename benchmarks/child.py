"""A process of a benchmark, whose end is noticed at once, however it comes."""

from __future__ import annotations

import importlib
import json
import signal
import time
import traceback
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

_PATIENCE_S = 5.0
"""Seconds to wait for a child that should end."""


class Blocked(Exception):
    """The benchmark cannot run here, because something it needs is missing."""


class Wrong(Exception):
    """The benchmark ran, and its result is wrong."""


class Child:
    """Runs `function(pipe, *arguments)` of `module`, which is loaded only in the child.

    The parent receives what the function sends, and last what it returns: values of JSON, which is what the
    pipe carries. The function should end when the pipe does.
    """

    def __init__(self, name: str, module: str, function: str, *arguments: Any) -> None:
        context = get_context("spawn")
        self._name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, module, function, arguments), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends with the process

    def receive(self, until: float, *others: Child) -> Any:
        """Returns the next value that the child sends, before `until` of the monotonic clock and while
        `others` live.

        Raises Blocked or Wrong if the child raised it, Blocked if nothing can come any more, RuntimeError for
        any other error of the child.
        """
        sentinels = {other._process.sentinel: other for other in others}
        ready = wait([self._pipe, *sentinels], max(until - time.monotonic(), 0))
        if self._pipe in ready:
            return self._received()
        for sentinel in ready:
            raise Blocked(sentinels[sentinel]._ending())  # type: ignore[index]
        raise Blocked(f"the {self._name} did not do its work in time")

    def close(self) -> None:
        """Ends the child, by force if necessary. Idempotent."""
        self._pipe.close()
        self._process.join(_PATIENCE_S)
        self._process.kill()
        self._process.join()

    def _received(self) -> Any:
        try:
            outcome, value = json.loads(self._pipe.recv_bytes())
        except (EOFError, ConnectionResetError):
            raise Blocked(self._ending()) from None
        if outcome == "blocked":
            raise Blocked(value)
        if outcome == "wrong":
            raise Wrong(value)
        if outcome == "failed":
            raise RuntimeError(f"the {self._name} failed:\n{value}")
        return value

    def _ending(self) -> str:
        self._process.join(_PATIENCE_S)
        code = self._process.exitcode or 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return f"the {self._name} ended {how}"


class Pipe:
    """The child's end of the pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, value: object) -> None:
        """Sends a value of JSON for the parent's next `receive`."""
        _send(self._connection, "sent", value)

    def wait(self) -> None:
        """Waits until the parent closes the child, or dies."""
        wait([self._connection])


def _run(connection: Connection, module: str, function: str, arguments: tuple[Any, ...]) -> None:
    try:
        outcome = "sent", getattr(importlib.import_module(module), function)(Pipe(connection), *arguments)
    except (Blocked, ImportError) as error:
        outcome = "blocked", str(error)
    except Wrong as error:
        outcome = "wrong", str(error)
    except Exception:  # noqa: BLE001 - barrier: the parent raises it
        outcome = "failed", traceback.format_exc()
    with suppress(BrokenPipeError):  # the parent has closed
        _send(connection, *outcome)


def _send(connection: Connection, outcome: str, value: object) -> None:
    connection.send_bytes(json.dumps((outcome, value)).encode())
