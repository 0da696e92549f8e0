"""Threads that tenants share."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

from services.common.fairness.virtual_time import VirtualTime

T = TypeVar("T")


@dataclass
class _Job(Generic[T]):
    work: Callable[[], T]
    weight: int
    future: Future[T] = field(default_factory=Future)

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:  # noqa: BLE001 - the future carries it to the caller
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class FairThreads:
    """Runs jobs on threads of its own. Any thread may submit.

    Tenants share the threads by weight, in core seconds; one tenant's jobs begin in the order they came.
    """

    def __init__(self, count: int, name: str) -> None:
        """`name`: the threads' prefix."""
        self._threads = ThreadPoolExecutor(count, name)
        self._lock = Lock()
        self._waiting: dict[int, deque[_Job[object]]] = {}
        self._time = VirtualTime()

    def submit(self, work: Callable[[], T], whose: tuple[int, int] = (0, 1)) -> Future[T]:
        """Returns the future of the result. `whose`: the tenant's number and weight; 0: nobody's in
        particular. Raises RuntimeError once closed.
        """
        tenant, weight = whose
        job = _Job(work, weight)
        with self._lock:
            if tenant not in self._waiting:
                self._waiting[tenant] = deque()
                self._time.wait(tenant)
            self._waiting[tenant].append(job)  # type: ignore[arg-type]
        self._threads.submit(self._run_next)
        return job.future

    def close(self) -> None:
        """Drops what has not begun, without waiting for what has. Idempotent."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run_next(self) -> None:
        with self._lock:
            tenant = self._time.next()
            waiting = self._waiting[tenant]
            job = waiting.popleft()
            if not waiting:
                del self._waiting[tenant]
                self._time.leave(tenant)
        began = time.thread_time()
        job.run()
        with self._lock:
            self._time.charge(tenant, job.weight, time.thread_time() - began)
