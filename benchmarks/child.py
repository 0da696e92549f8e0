"""A process of a benchmark's own, whose end is noticed at once, however it comes."""

from __future__ import annotations

import importlib
import signal
import time
import traceback
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

_PATIENCE_S = 5.0
"""For a child that should end."""


class Blocked(Exception):
    """What the benchmark needs cannot be had here."""


class Wrong(Exception):
    """The benchmark ran, and what came out is not what should have."""


class Child:
    """Runs `function(pipe, *arguments)` of `module`, which is loaded there and nowhere else.

    What the function sends is received here, and last what it returns. It should end when the pipe does.
    """

    def __init__(self, name: str, module: str, function: str, *arguments: Any) -> None:
        context = get_context("spawn")
        self._name = name
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, module, function, arguments), daemon=True)
        self._process.start()
        theirs.close()  # with the process the pipe ends, too

    def receive(self, until: float, *others: Child) -> Any:
        """The next thing that it sends, before `until` of the monotonic clock and while `others` live.

        Raises Blocked or Wrong if it did, Blocked where nothing can come any more, RuntimeError for whatever
        else it raised.
        """
        sentinels = {other._process.sentinel: other for other in others}
        ready = wait([self._pipe, *sentinels], max(until - time.monotonic(), 0))
        if self._pipe in ready:
            return self._received()
        for sentinel in ready:
            raise Blocked(sentinels[sentinel]._ending())  # type: ignore[index]
        raise Blocked(f"the {self._name} has not done its work in time")

    def close(self) -> None:
        """Ends it, at last by force. Idempotent."""
        self._pipe.close()
        self._process.join(_PATIENCE_S)
        self._process.kill()
        self._process.join()

    def _received(self) -> Any:
        try:
            outcome, value = self._pipe.recv()
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
    """The child's end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, value: object) -> None:
        """For the parent's next `receive`."""
        self._connection.send(("sent", value))

    def wait(self) -> None:
        """Until the parent closes the child, or dies."""
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
        connection.send(outcome)
