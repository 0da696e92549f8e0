"""A worker whose pool is on a GPU: NIXL's thread has a context, and the probe takes the way of the pages."""

from __future__ import annotations

import inspect
import threading

import numpy as np
import pytest
import torch

from services.common.errors import ConfigError
from services.engine.kv_transfer.agents.agent import Agent
from services.engine.kv_transfer.agents.device_choice import device_of
from services.engine.kv_transfer.agents.gpu import Gpu
from services.engine.kv_transfer.agents.memory_agent import InMemoryAgent
from services.engine.kv_transfer.agents.pool_device import HostBytes
from services.engine.kv_transfer.agents.region import Region, RegionKind
from services.engine.kv_transfer.transfer_thread import TransferThread

CALLS = [name for name, member in vars(Agent).items() if inspect.isfunction(member) and name[0] != "_"]


class GpuDouble:
    """GPU 3, whose memory is host memory; remembers which threads it gave a context."""

    memory_type = "VRAM"
    device_id = 3

    def __init__(self) -> None:
        self.bound: set[int] = set()

    def bind(self) -> None:
        self.bound.add(threading.get_ident())

    def place(self, values):
        assert threading.get_ident() in self.bound, "the thread has no CUDA context"
        return HostBytes(values)


class ContextAgent(InMemoryAgent):
    """Fails where UCX would: at a call by a thread without a CUDA context."""

    def __init__(self, name, fabric, device: GpuDouble) -> None:
        super().__init__(name, fabric)
        self.calls: list[str] = []
        for call in CALLS:
            setattr(self, call, self._demanding(call, getattr(self, call), device))

    def _demanding(self, name, method, device):
        def call(*args):
            assert threading.get_ident() in device.bound, f"{name}: the thread has no CUDA context"
            self.calls.append(name)
            return method(*args)

        return call


class Worker:
    """A transfer thread over regions of `memory` [8, 256] bytes, by default one of KV in device memory."""

    def __init__(self, name, fabric, seed, kinds=((RegionKind.KV, "VRAM"),), **options) -> None:
        self.memory = np.random.default_rng(seed).integers(0, 256, (8, 256), dtype=np.uint8)
        self.device = GpuDouble()
        self.agent = ContextAgent(name, fabric, self.device)
        address = self.memory.ctypes.data
        regions = [
            Region(
                kind, address, 256, 8, device_id=3 if memory_type == "VRAM" else 0, memory_type=memory_type
            )
            for kind, memory_type in kinds
        ]
        self.thread = TransferThread(
            self.agent, regions, name, device=self.device, close_grace_s=0.05, **options
        )


@pytest.fixture
def new_gpu_worker(fabric):
    workers = []

    def make(name, seed=0, **options):
        workers.append(Worker(name, fabric, seed, **options))
        workers[-1].thread.start()
        return workers[-1]

    yield make
    for worker in workers:
        worker.thread.close()


def test_every_call_to_nixl_comes_from_a_thread_with_a_context(new_gpu_worker):
    reader, source = new_gpu_worker("reader"), new_gpu_worker("source", seed=1)
    reader.thread.connect(source.thread.offer()).result(5)
    reader.thread.check("source", 3).result(5)
    reader.thread.disconnect("source").result(5)
    reader.thread.close()
    assert {"open", "register", "poll", "post", "check", "close"} <= {*reader.agent.calls}
    assert reader.device.bound == {reader.thread._thread.ident}


def test_the_probe_and_what_it_is_read_into_lie_where_the_pool_does(new_gpu_worker):
    reader, source = new_gpu_worker("reader"), new_gpu_worker("source", seed=1)
    kinds = {region.kind: (region.memory_type, region.device_id) for region in source.thread.offer().regions}
    assert kinds == {RegionKind.KV: ("VRAM", 3), RegionKind.PROBE: ("VRAM", 3)}
    reader.thread.connect(source.thread.offer()).result(5)
    registered = {(region.kind, region.memory_type) for region in reader.agent._registered}
    assert registered == {(RegionKind.KV, "VRAM"), (RegionKind.PROBE, "VRAM")}


def test_a_path_is_tried_to_where_reads_from_that_peer_land_pages_to_the_gpu_embeddings_to_the_host(
    new_gpu_worker, fabric
):
    text = (RegionKind.KV, "VRAM"), (RegionKind.EMBEDDING, "DRAM")
    reader, prefill = new_gpu_worker("reader", kinds=text), new_gpu_worker("prefill", seed=1, kinds=text)
    vision = new_gpu_worker("vision", seed=2, kinds=[(RegionKind.EMBEDDING, "VRAM")])
    for peer, memory_type in ((prefill, "VRAM"), (vision, "DRAM")):
        before = set(reader.agent._registered)
        reader.thread.connect(peer.thread.offer()).result(5)
        [landing] = set(reader.agent._registered) - before
        assert (landing.kind, landing.memory_type) == (RegionKind.PROBE, memory_type)
    fabric.corrupting["vision"] = 1
    with pytest.raises(Exception, match="CRC-32"):
        reader.thread.check("vision", 2).result(5)


def test_on_a_gpu_the_thread_has_a_stream_of_its_own_and_waits_for_no_other(monkeypatch):
    waited, chosen = [], []

    class Stream:
        """A torch.cuda.Stream."""

        def __init__(self, name) -> None:
            self.name = name

        def synchronize(self) -> None:
            waited.append(self.name)

    engines = Stream("the engine's")
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: Stream("its own"))
    monkeypatch.setattr(torch.cuda, "set_stream", chosen.append)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: chosen[-1] if chosen else engines)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: waited.append("everything"))
    gpu = Gpu(0)
    monkeypatch.setattr(gpu, "_device", torch.device("cpu"))
    gpu.bind()
    placed = gpu.place(np.arange(8, dtype=np.uint8))
    placed.clear()
    assert not placed.read().any()
    assert waited == ["its own"] * 3


def test_wrong_bytes_in_device_memory_are_noticed(new_gpu_worker, fabric):
    reader, source = new_gpu_worker("reader"), new_gpu_worker("source", seed=1)
    reader.thread.connect(source.thread.offer()).result(5)
    fabric.corrupting["source"] = 1
    with pytest.raises(Exception, match="CRC-32"):
        reader.thread.check("source", 2).result(5)


def test_the_device_of_a_pool_is_the_one_that_its_regions_name():
    host = Region(RegionKind.EMBEDDING, 4096, 64, 1)
    gpu = Region(RegionKind.KV, 4096, 64, 1, device_id=5, memory_type="VRAM")
    for regions, expected in [((host,), ("DRAM", 0)), ((host, gpu), ("VRAM", 5)), ((), ("DRAM", 0))]:
        device = device_of(regions)
        assert (device.memory_type, device.device_id) == expected


def test_where_rdma_is_expected_the_kind_of_the_pools_memory_decides_whether_it_is_possible(fabric):
    asked = []

    class Asked(InMemoryAgent):
        def rdma_obstacle(self, memory_type):
            asked.append(memory_type)
            return "there is none"

    device = GpuDouble()
    thread = TransferThread(
        Asked("strict", fabric), [], "strict", device=device, expected="rdma", allow_fallback=False
    )
    with pytest.raises(ConfigError, match="there is none"):
        thread.start()
    assert asked == ["VRAM"]
