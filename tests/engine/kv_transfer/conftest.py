"""Workers that read each other's memory inside one process, and what became of their reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from services.engine.kv_transfer.agents.memory_agent import InMemoryAgent, MemoryFabric
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest
from services.engine.kv_transfer.transfer_thread import TransferThread
from tests.support.waiting import wait_until

ENTRY_BYTES = 256
ENTRIES = 64


class SkippingClock:
    """The monotonic clock, which tests set ahead or stop."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._stopped_at: float | None = None

    def __call__(self) -> float:
        now = time.monotonic() if self._stopped_at is None else self._stopped_at
        return now + self._ahead

    def skip(self, seconds: float) -> None:
        self._ahead += seconds

    def stop(self) -> None:
        self._stopped_at = time.monotonic()


@dataclass
class Watched:
    """A read's callbacks in the order they came."""

    events: list[ReadOutcome | str] = field(default_factory=list)
    completed: threading.Event = field(default_factory=threading.Event)
    settled: threading.Event = field(default_factory=threading.Event)

    def on_complete(self, outcome: ReadOutcome) -> None:
        self.events.append(outcome)
        self.completed.set()

    def on_settled(self) -> None:
        self.events.append("settled")
        self.settled.set()

    def outcome(self, timeout_s: float = 5.0) -> ReadOutcome:
        assert self.completed.wait(timeout_s), "no outcome came"
        first = self.events[0]
        assert isinstance(first, ReadOutcome)
        return first

    def status(self) -> str:
        return self.outcome().status.value

    def wait_settled(self, timeout_s: float = 5.0) -> None:
        assert self.settled.wait(timeout_s), "the read was not settled"
        assert self.events.count("settled") == 1
        assert len(self.events) == 2


class MemoryWorker:
    """A transfer thread over an in-memory agent with a KV region of `memory` [ENTRIES, ENTRY_BYTES]."""

    def __init__(self, name: str, fabric: MemoryFabric, seed: int, **options) -> None:
        random = np.random.default_rng(seed)
        self.memory = random.integers(0, 256, (ENTRIES, ENTRY_BYTES), dtype=np.uint8)
        self.agent = InMemoryAgent(name, fabric)
        self.agent.rdma = options.pop("rdma", False)
        entry_bytes = options.pop("entry_bytes", ENTRY_BYTES)
        region = Region(
            RegionKind.KV, self.memory.ctypes.data, entry_bytes, self.memory.nbytes // entry_bytes
        )
        self.clock = SkippingClock()
        defaults = {
            "clock": self.clock,
            "serving_poll_s": 0.0005,
            "idle_poll_s": 0.001,
            "close_grace_s": 0.05,
        }
        make = options.pop("make", TransferThread)
        self.thread = make(self.agent, [region], f"{name}-incarnation", **(defaults | options))

    def turn(self) -> None:
        """Returns when the transfer thread has gone once through everything."""
        before = self.agent.polls
        wait_until(lambda: self.agent.polls >= before + 2)

    def read(self, peer: str, local, remote, deadline_s: float = 5.0, **options) -> Watched:
        watched = Watched()
        request = ReadRequest(
            peer=peer,
            kind=options.pop("kind", RegionKind.KV),
            local_entries=np.array(local, dtype=np.int32),
            remote_entries=np.array(remote, dtype=np.int32),
            deadline=self.clock() + deadline_s,
            on_complete=options.pop("on_complete", watched.on_complete),
            on_settled=options.pop("on_settled", watched.on_settled),
            **options,
        )
        self.thread.read(request)
        return watched


@pytest.fixture
def fabric() -> MemoryFabric:
    return MemoryFabric()


@pytest.fixture
def new_worker(fabric: MemoryFabric) -> Iterator[Callable[..., MemoryWorker]]:
    """Makes workers on one fabric and closes them."""
    workers: list[MemoryWorker] = []

    def make(name: str, seed: int = 0, start: bool = True, **options) -> MemoryWorker:
        worker = MemoryWorker(name, fabric, seed, **options)
        workers.append(worker)
        if start:
            worker.thread.start()
        return worker

    yield make
    for worker in workers:
        worker.thread.close()


@pytest.fixture
def reader(new_worker) -> MemoryWorker:
    """A worker that is connected to `source`."""
    return new_worker("reader", seed=1)


@pytest.fixture
def source(new_worker, reader) -> MemoryWorker:
    """The worker whose memory `reader` reads."""
    worker = new_worker("source", seed=2)
    reader.thread.connect(worker.thread.offer()).result(5)
    return worker
