"""The one thread that owns a worker's device and state."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import structlog

from services.engine.step_watch import StepWatch

T = TypeVar("T")

log = structlog.get_logger()


class EngineLoop:
    """Runs `step` again and again on its own thread; other threads give it work through `post` and `call`.

    Messages run in the order posted, between steps, so state that only they and `step` touch needs no lock.
    `step` returns whether it did work: after an idle step the thread sleeps until a message arrives or
    `idle_wait_s` passes. An exception from a step or a message is a bug that leaves the state unknown: it is
    passed to `on_fatal`, and the thread ends. With a `watch`, a turn that does not end in time is reported so
    too, from another thread.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], bool],
        on_fatal: Callable[[BaseException], None],
        idle_wait_s: float = 0.05,
        watch: StepWatch | None = None,
    ) -> None:
        self._step = step
        self._on_fatal = on_fatal
        self._idle_wait_s = idle_wait_s
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._watch = watch
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread; once."""
        self._thread.start()
        if self._watch is not None:
            self._watch.report(self._thread.name, self._ended, self._on_fatal)

    def post(self, message: Callable[[], None]) -> None:
        """Runs `message` on the engine thread. Any thread may call this; never blocks."""
        self._inbox.put(message)

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Like `post`, with a future of the result or the exception; the exception does not end the
        thread.
        """
        future: Future[T] = Future()

        def message() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001 - barrier: the future carries it to the caller
                future.set_exception(error)

        self.post(message)
        return future

    def stop(self, timeout_s: float = 10.0) -> None:
        """Ends the thread after the messages posted so far, and waits for it. Idempotent."""
        self._inbox.put(None)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            busy = True
            while self._drain_inbox(wait=not busy):
                busy = self._turn(self._step, is_step=True)
        except BaseException as error:
            log.exception("engine loop failed", loop=self._thread.name)
            self._on_fatal(error)
        finally:
            self._ended.set()

    def _turn(self, run: Callable[[], T], *, is_step: bool) -> T:
        if self._watch is None:
            return run()
        self._watch.begin(is_step=is_step)
        result = run()
        self._watch.end()
        return result

    def _drain_inbox(self, *, wait: bool) -> bool:
        """Runs all pending messages, after waiting for the first one if asked. False: the loop must end."""
        try:
            message = self._inbox.get(timeout=self._idle_wait_s) if wait else self._inbox.get_nowait()
            while message is not None:
                self._turn(message, is_step=False)
                message = self._inbox.get_nowait()
        except queue.Empty:
            return True
        return False
