"""Ways to get pages from another process, and the rate of each."""

from __future__ import annotations

import importlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.child import Blocked, Pipe, Wrong
from benchmarks.transfer_plan import Plan
from kernels.benchmarks.wheels import not_installed
from perigee.v1 import worker_pb2
from services.common.errors import ConfigError, PerigeeError, TransferFailed
from services.engine.kv_cache.kv_format import BFLOAT16
from services.engine.kv_cache.kv_pages import allocate_kv_pages, kv_region, layer_pages
from services.engine.kv_transfer.agents.agent import AgentError, TransferState
from services.engine.kv_transfer.agents.nixl_agent import NixlAgent
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.offer_proto import offer_from_proto, offer_to_proto
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest, ReadStatus
from services.engine.kv_transfer.transfer_thread import TransferThread

WIDTH = 576
PATIENCE_S = 60.0


def make_pool(plan: Plan) -> Tensor:
    """A pool of zeros."""
    return allocate_kv_pages(plan.pages, plan.layers, WIDTH, BFLOAT16, plan.device)


def fill(pool: Tensor) -> None:
    """Fills the source's pool with values that are different in every entry."""
    generator = torch.Generator(pool.device).manual_seed(3)
    pool.copy_(torch.randn(pool.shape, generator=generator, device=pool.device, dtype=torch.float32))


def serve(pipe: Pipe, plan: Plan) -> None:
    """The source: sends the device's name and its offer, a MemoryOffer in hexadecimal; serves until the pipe
    ends.
    """
    torch.set_num_threads(1)
    pipe.send(_device_name(plan))
    with _blocked():
        pool = make_pool(plan)
        fill(pool)
        if pool.is_cuda:
            torch.cuda.synchronize()
        thread = TransferThread(NixlAgent("source"), [kv_region(pool)], "source")
        thread.start()
        thread.pin_serving()
    pipe.send(offer_to_proto(thread.offer()).SerializeToString().hex())
    pipe.wait()
    thread.close()


def read(_: Pipe, plan: Plan, offer: str) -> dict[str, object]:
    """The reader of an offer as `serve` sends it: the findings of `measure`, `into_host`: the GB/s of
    `read_into_host`, or what went wrong, and `reads`: the device's bytes/s, or why not.
    """
    torch.set_num_threads(1)
    found = measure(plan, offer_from_hex(offer))
    try:
        into_host: float | str = read_into_host(plan, offer_from_hex(offer))
    except (RuntimeError, PerigeeError, TimeoutError, Wrong) as error:
        into_host = f"failed: {error}"
    # After the transfers: nothing else may use the device while a graph is recorded.
    return {**found, "into_host": into_host, "reads": _reads(plan)}


def offer_from_hex(offer: str) -> Offer:
    """The offer that `serve` sent."""
    return offer_from_proto(worker_pb2.MemoryOffer.FromString(bytes.fromhex(offer)))


class Ours:
    """Reads like a worker."""

    name = "transfer thread"

    def __init__(self, plan: Plan, offer: Offer, agent: str = "reader") -> None:
        self.pool = make_pool(plan)
        self._offer = offer
        self._thread = TransferThread(NixlAgent(agent), [kv_region(self.pool)], agent)
        self._thread.start()
        self._transport = self._thread.connect(offer).result(PATIENCE_S).transport

    @property
    def transport(self) -> str:
        """The transport that UCX chose."""
        return self._transport

    def read(self, local: npt.NDArray[np.int32], remote: npt.NDArray[np.int32]) -> None:
        """Waits until all bytes are there; raises RuntimeError if the read fails."""
        settled, outcomes = threading.Event(), list[ReadOutcome]()
        self._thread.read(
            ReadRequest(
                self._offer.agent_name,
                RegionKind.KV,
                local,
                remote,
                time.monotonic() + PATIENCE_S,
                outcomes.append,
                settled.set,
            )
        )
        if not settled.wait(PATIENCE_S) or outcomes[0].status is not ReadStatus.DONE:
            raise RuntimeError(f"the read did not succeed: {outcomes}")

    def close(self) -> None:
        """Ends the thread."""
        self._thread.close()


class Bare:
    """Reads with NIXL's own calls, on this thread."""

    name = "bare NIXL"

    def __init__(self, plan: Plan, offer: Offer) -> None:
        self.pool = make_pool(plan)
        region, theirs = kv_region(self.pool), offer.region(RegionKind.KV)
        assert theirs is not None
        self._agent = NixlAgent("bare")
        self._agent.open()
        self._agent.register(region)
        peer = self._agent.add_peer(offer.agent_metadata)
        self._local = self._agent.prepare_local(region)
        self._remote = self._agent.prepare_remote(peer, theirs)

    def read(self, local: npt.NDArray[np.int32], remote: npt.NDArray[np.int32]) -> None:
        """Polls until the read is done."""
        transfer = self._agent.make_read(self._local, local, self._remote, remote)
        state = self._agent.post(transfer)
        end = time.monotonic() + PATIENCE_S
        while state is not TransferState.DONE:
            if time.monotonic() > end:
                raise TimeoutError(f"a read was not done after {PATIENCE_S:.0f} s")
            state = self._agent.check(transfer)
        self._agent.release(transfer)

    def close(self) -> None:
        """Destroys the agent."""
        self._agent.close()


class Copy:
    """Copies as many bytes within this process, in one piece."""

    name = "copy in memory"

    def __init__(self, plan: Plan) -> None:
        self.pool = make_pool(plan)
        source = make_pool(plan)
        fill(source)
        self._source = source

    def read(self, local: npt.NDArray[np.int32], remote: npt.NDArray[np.int32]) -> None:
        """Copies all bytes, whatever the entries."""
        self.pool.copy_(self._source)
        if self.pool.is_cuda:
            torch.cuda.synchronize()


Way = Ours | Bare | Copy


def measure(plan: Plan, offer: Offer) -> dict[str, object]:
    """Median GB/s of each way, and the ratios of one run.

    Raises Blocked if bare NIXL cannot read, Wrong if bytes differ; a failure of ours alone is an error.
    """
    entries = layer_pages(range(plan.pages), plan.layers, 0, plan.layers)
    order = np.random.default_rng(1).permutation(entries).astype(np.int32)
    with ExitStack() as stack:
        with _blocked():
            bare = stack.enter_context(closing(Bare(plan, offer)))
            bare.read(order, order)
        ours = stack.enter_context(closing(Ours(plan, offer)))
        ways: list[Way] = [ours, bare, Copy(plan)]
        rates = _rates(ways, order, plan.rounds)
        _compare(ways, plan)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    pairs = zip(rates[Ours.name], rates[Bare.name], strict=True)
    return {
        "device": plan.device,
        "transport": ours.transport,
        "megabytes": ours.pool.nbytes / 1e6,
        "entries": len(order),
        "gigabytes_per_second": medians,
        "ours_to_bare": statistics.median(our / bare for our, bare in pairs),
        "ours_to_copy": medians[Ours.name] / medians[Copy.name],
    }


def read_into_host(plan: Plan, offer: Offer) -> float:
    """GB/s of one read into memory of the host, where a worker's reads of embeddings land whatever device has
    them. Raises an error if it fails, and Wrong if bytes differ.
    """
    on_host = replace(plan, device="cpu")
    entries = layer_pages(range(plan.pages), plan.layers, 0, plan.layers)
    with closing(Ours(on_host, offer, "host-reader")) as way:
        way.read(entries[:1], entries[:1])  # connects
        seconds = _seconds(lambda: way.read(entries, entries))
        _compare([way], plan)
        return way.pool.nbytes / seconds / 1e9


def _rates(ways: Sequence[Way], order: npt.NDArray[np.int32], rounds: int) -> dict[str, list[float]]:
    """GB/s of each round except the first, which connects."""
    rates: dict[str, list[float]] = {way.name: [] for way in ways}
    for _ in range(rounds + 1):
        for way in ways:
            seconds = _seconds(lambda way=way: way.read(order, order))  # type: ignore[misc]
            rates[way.name].append(way.pool.nbytes / seconds / 1e9)
    return {name: found[1:] for name, found in rates.items()}


def _compare(ways: Sequence[Way], plan: Plan) -> None:
    expected = make_pool(plan)
    fill(expected)
    for way in ways:
        if not torch.equal(way.pool.to(expected.device), expected):
            raise Wrong(f"{way.name}: the bytes differ from the source's")


def _seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _device_name(plan: Plan) -> str:
    if not plan.on_gpu:
        return plan.device
    if not torch.cuda.is_available():
        raise Blocked("torch sees no CUDA device here")
    return torch.cuda.get_device_name(plan.device)


def _reads(plan: Plan) -> float | str:
    if not plan.on_gpu:
        return "measured on a GPU only"
    if reason := not_installed("triton"):
        return f"not run: {reason}"
    try:
        # Imported late, because they import triton.
        ceilings = importlib.import_module("kernels.benchmarks.ceilings")
        timer = importlib.import_module("kernels.benchmarks.timer").GraphTimer()
        return float(ceilings.measure_reads(timer, torch.device(plan.device)))
    except Exception as error:  # noqa: BLE001 - barrier: this is only shown beside the measurements
        return f"not run: {error!r}"


@contextmanager
def _blocked() -> Iterator[None]:
    """Turns failures of NIXL, UCX or the device into Blocked."""
    try:
        yield
    except (ImportError, OSError, RuntimeError, AgentError, ConfigError, TransferFailed) as error:
        raise Blocked(repr(error)) from error
