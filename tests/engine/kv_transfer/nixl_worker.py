"""A process of its own with a transfer thread over real NIXL, driven over a pipe. Run as: nixl_worker.py FD.

Takes (method, arguments) from the pipe and answers (True, result) or (False, error).
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
import types
import zlib
from multiprocessing.connection import Connection

import numpy as np

# NIXL's package loads torch only to learn its CUDA version: a second per process.
_torch = types.ModuleType("torch")
_torch.Tensor = type("Tensor", (), {})
sys.modules.setdefault("torch", _torch)

from services.engine.kv_transfer.agents.nixl_agent import NixlAgent  # noqa: E402
from services.engine.kv_transfer.agents.region import Region, RegionKind  # noqa: E402
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest  # noqa: E402
from services.engine.kv_transfer.transfer_thread import TransferThread  # noqa: E402
from tests.engine.kv_transfer.pattern import pattern  # noqa: E402


class Worker:
    """What a test may ask of the process."""

    def __init__(self) -> None:
        self.reads: dict[int, tuple[list[ReadOutcome], threading.Event, threading.Event]] = {}

    def start(self, name: str, seed: int, entries: int, entry_bytes: int, pin: bool = True, **options):
        self.memory = pattern(seed, entries, entry_bytes)
        region = Region(RegionKind.KV, self.memory.ctypes.data, entry_bytes, entries)
        self.agent = NixlAgent(name)
        self.thread = TransferThread(self.agent, [region], name, **options)
        report = self.thread.start()
        if pin:
            self.thread.pin_serving()
        return self.thread.offer(), report

    def connect(self, offer):
        return self.thread.connect(offer).result(20)

    def is_alive(self) -> bool:
        return self.thread.is_alive()

    def check(self, name: str, rounds: int):
        return self.thread.check(name, rounds).result(60)

    def disconnect(self, name: str, timeout_s: float) -> bool:
        try:
            self.thread.disconnect(name).result(timeout_s)
        except TimeoutError:
            return False
        return True

    def read(self, key: int, peer: str, local, remote, deadline_s: float, **options) -> None:
        outcomes: list[ReadOutcome] = []
        completed, settled = threading.Event(), threading.Event()
        self.reads[key] = (outcomes, completed, settled)

        def on_complete(outcome: ReadOutcome) -> None:
            outcomes.append(outcome)
            completed.set()

        deadline = time.monotonic() + deadline_s
        self.thread.read(
            ReadRequest(peer, RegionKind.KV, local, remote, deadline, on_complete, settled.set, **options)
        )

    def outcome(self, key: int, timeout_s: float = 10.0) -> ReadOutcome | None:
        outcomes, completed, _ = self.reads[key]
        return outcomes[0] if completed.wait(timeout_s) else None

    def settled(self, key: int, timeout_s: float = 10.0) -> bool:
        return self.reads[key][2].wait(timeout_s)

    def differing(self, seed: int, local, remote) -> int:
        """How many local entries differ from a source's remote ones."""
        expected = pattern(seed, *self.memory.shape)
        return int((self.memory[local] != expected[remote]).any(axis=1).sum())

    def not_zero(self, entries) -> int:
        """How many of the entries something was written to."""
        return int(self.memory[entries].any(axis=1).sum())

    def live_handles(self) -> int:
        return self.agent.live_handles

    def in_flight(self) -> int:
        return self.thread.in_flight()

    def storm(self, peer: str, seed: int, reads: int, most_entries: int, deadlines: bool) -> dict[str, int]:
        """Many reads of random entries, each into local entries that no unsettled read has."""
        expected = pattern(seed, *self.memory.shape)
        random = np.random.default_rng(reads)
        free = set(range(len(self.memory)))
        changed = threading.Condition()
        tally: dict[str, int] = {"wrong": 0, "completions": 0, "settlements": 0}
        for _ in range(reads):
            count = int(random.integers(1, most_entries + 1))
            with changed:
                assert changed.wait_for(lambda count=count: len(free) >= count, 20), "entries never settled"
                local = np.array([free.pop() for _ in range(count)], dtype=np.int32)
            remote = random.integers(0, len(expected), count).astype(np.int32)
            deadline = time.monotonic() + (random.choice([0.0, 0.0005, 0.003, 20.0]) if deadlines else 20.0)

            def on_complete(outcome: ReadOutcome, local=local, remote=remote) -> None:
                tally["completions"] += 1
                status = outcome.status.value
                tally[status] = tally.get(status, 0) + 1
                if status == "done":
                    tally["wrong"] += int((self.memory[local] != expected[remote]).any())

            def on_settled(local=local) -> None:
                with changed:
                    tally["settlements"] += 1
                    free.update(local.tolist())
                    changed.notify()

            self.thread.read(
                ReadRequest(peer, RegionKind.KV, local, remote, deadline, on_complete, on_settled)
            )
        with changed:
            assert changed.wait_for(lambda: tally["settlements"] == reads, 20), "reads never settled"
        return tally

    def resident_bytes(self) -> int:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def checksum(self, entries) -> int:
        return zlib.crc32(self.memory[entries].tobytes())

    def spoil(self, entry: int) -> None:
        self.memory[entry, 0] ^= 1

    def close(self) -> float:
        began = time.monotonic()
        self.thread.close()
        return time.monotonic() - began


def main() -> None:
    pipe = Connection(int(sys.argv[1]))
    worker = Worker()
    while True:
        try:
            method, arguments, options = pipe.recv()
        except EOFError:
            os._exit(0)
        try:
            pipe.send((True, getattr(worker, method)(*arguments, **options)))
        except Exception:  # noqa: BLE001 - whatever it is, the test shall see it
            pipe.send((False, traceback.format_exc()))


if __name__ == "__main__":
    main()
