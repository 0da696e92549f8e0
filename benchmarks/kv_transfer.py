"""How fast pages come from another process: ours, against bare NIXL and against a copy in memory.

python -m benchmarks.kv_transfer [--device cpu|cuda:0] [--pages 256] [--layers 8] [--rounds 9]

A second process offers a pool of pages in its own memory, or in that of the GPU. The same blocks, in random
order, are read by the transfer thread of a worker and by a NIXL agent that does nothing else; as many bytes
are copied within this process; one after the other in every round. All bytes are compared with what the
source holds. Exits with 1 where they differ, or where ours reaches less than 0.85 of bare NIXL.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.result import write_result
from services.engine.kv_pages import allocate_kv_pages, kv_blocks, kv_region
from services.engine.kv_transfer.agent import TransferState
from services.engine.kv_transfer.nixl_agent import NixlAgent
from services.engine.kv_transfer.offer import Offer
from services.engine.kv_transfer.read_request import ReadOutcome, ReadRequest, ReadStatus
from services.engine.kv_transfer.region import RegionKind
from services.engine.kv_transfer.transfer_thread import TransferThread

BOUND = 0.85
WIDTH = 576
DTYPE = torch.bfloat16
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Plan:
    """What is moved."""

    device: str
    pages: int
    layers: int
    rounds: int

    def pool(self) -> Tensor:
        """Zeros, or with `fill` what the source has."""
        return allocate_kv_pages(self.pages, self.layers, WIDTH, DTYPE, self.device)

    def fill(self, pool: Tensor) -> None:
        """With values that tell every block from every other."""
        generator = torch.Generator(pool.device).manual_seed(3)
        pool.copy_(torch.randn(pool.shape, generator=generator, device=pool.device, dtype=torch.float32))


def serve(plan: Plan, pipe: Connection) -> None:
    """The source: offers its pool until the pipe says so."""
    torch.set_num_threads(1)
    pool = plan.pool()
    plan.fill(pool)
    if pool.is_cuda:
        torch.cuda.synchronize()
    thread = TransferThread(NixlAgent("source"), [kv_region(pool)], "source")
    thread.start()
    thread.pin_serving()
    pipe.send(thread.offer())
    pipe.recv()
    thread.close()


class Ours:
    """Reads as a worker does."""

    name = "transfer thread"

    def __init__(self, plan: Plan, offer: Offer) -> None:
        self.pool = plan.pool()
        self._offer = offer
        self._thread = TransferThread(NixlAgent("reader"), [kv_region(self.pool)], "reader")
        self._thread.start()
        self._transport = self._thread.connect(offer).result(_PATIENCE_S).transport

    @property
    def transport(self) -> str:
        """What UCX chose."""
        return self._transport

    def read(self, local: npt.NDArray[np.int32], remote: npt.NDArray[np.int32]) -> None:
        """Waits until all bytes are there; RuntimeError where they cannot be had."""
        settled, outcomes = threading.Event(), list[ReadOutcome]()
        self._thread.read(
            ReadRequest(
                self._offer.agent_name,
                RegionKind.KV,
                local,
                remote,
                time.monotonic() + _PATIENCE_S,
                outcomes.append,
                settled.set,
            )
        )
        if not settled.wait(_PATIENCE_S) or outcomes[0].status is not ReadStatus.DONE:
            raise RuntimeError(f"the read did not succeed: {outcomes}")

    def close(self) -> None:
        """Ends the thread."""
        self._thread.close()


class Bare:
    """NIXL's own calls, on this thread."""

    name = "bare NIXL"

    def __init__(self, plan: Plan, offer: Offer) -> None:
        self.pool = plan.pool()
        region, theirs = kv_region(self.pool), offer.region(RegionKind.KV)
        assert theirs is not None
        self._agent = NixlAgent("bare")
        self._agent.open()
        self._agent.register(region)
        peer = self._agent.add_peer(offer.agent_metadata)
        self._local = self._agent.prepare_local(region)
        self._remote = self._agent.prepare_remote(peer, theirs)

    def read(self, local: npt.NDArray[np.int32], remote: npt.NDArray[np.int32]) -> None:
        """Polls until it is done."""
        transfer = self._agent.make_read(self._local, local, self._remote, remote)
        state = self._agent.post(transfer)
        while state is not TransferState.DONE:
            state = self._agent.check(transfer)
        self._agent.release(transfer)

    def close(self) -> None:
        """Destroys the agent."""
        self._agent.close()


class Copy:
    """As many bytes within this process, in one piece."""

    name = "copy in memory"

    def __init__(self, plan: Plan) -> None:
        self.pool = plan.pool()
        source = plan.pool()
        plan.fill(source)
        self._source = source

    def read(self, local: npt.NDArray[np.int32], remote: npt.NDArray[np.int32]) -> None:
        """All of them, whichever are asked for."""
        self.pool.copy_(self._source)
        if self.pool.is_cuda:
            torch.cuda.synchronize()

    def close(self) -> None:
        """Nothing to end."""


Way = Ours | Bare | Copy


def measure(plan: Plan, offer: Offer) -> dict[str, object]:
    """Median GB/s of each way, and the ratios of one run; RuntimeError where bytes differ."""
    ours = Ours(plan, offer)
    ways: list[Way] = [ours, Bare(plan, offer), Copy(plan)]
    blocks = kv_blocks(range(plan.pages), plan.layers, 0, plan.layers)
    order = np.random.default_rng(1).permutation(blocks).astype(np.int32)
    num_bytes = ours.pool.nbytes
    rates: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(plan.rounds + 1):
        for way in ways:
            seconds = _seconds(lambda way=way: way.read(order, order))  # type: ignore[misc]
            rates[way.name].append(num_bytes / seconds / 1e9)
    expected = plan.pool()
    plan.fill(expected)
    for way in ways:
        if not torch.equal(way.pool, expected):
            raise RuntimeError(f"{way.name}: the bytes differ from the source's")
        way.close()
    # The first round connects.
    medians = {name: statistics.median(found[1:]) for name, found in rates.items()}
    ratio = statistics.median(
        our / bare for our, bare in zip(rates[Ours.name][1:], rates[Bare.name][1:], strict=True)
    )
    return {
        "device": plan.device,
        "transport": ours.transport,
        "megabytes": num_bytes / 1e6,
        "blocks": len(order),
        "gigabytes_per_second": medians,
        "ours_to_bare": ratio,
        "ours_to_copy": medians[Ours.name] / medians[Copy.name],
    }


def _seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def run(plan: Plan) -> dict[str, object]:
    """With a source of its own."""
    context = get_context("spawn")
    pipe, theirs = context.Pipe()
    source = context.Process(target=serve, args=(plan, theirs), daemon=True)
    source.start()
    try:
        if not pipe.poll(_PATIENCE_S):
            raise RuntimeError("the source has not started")
        return measure(plan, pipe.recv())
    finally:
        pipe.send("end")
        source.join(10)
        source.kill()


def main(argv: list[str] | None = None) -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv_transfer", description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pages", type=int, default=256)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the table")
    options = parser.parse_args(argv)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("kv transfer: not run: torch sees no CUDA device here")
        return 0
    torch.set_num_threads(1)
    found = run(Plan(options.device, options.pages, options.layers, options.rounds))
    rates = found["gigabytes_per_second"]
    assert isinstance(rates, dict)
    ratio = found["ours_to_bare"]
    assert isinstance(ratio, float)
    print(
        f"{found['megabytes']:,.0f} MB in {found['blocks']:,} blocks on {found['device']}, "
        f"transport {found['transport']}"
    )
    for name, rate in rates.items():
        print(f"{name:>16}  {rate:7.2f} GB/s  {rate / rates[Bare.name]:5.2f} of bare NIXL")
    print(f"median ratio of a round: {ratio:.2f} (bound {BOUND})")
    write_result(options.out, found)
    return int(ratio < BOUND)


if __name__ == "__main__":
    raise SystemExit(main())
