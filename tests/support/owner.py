"""Workers in the test's process: they offer memory over real gRPC, and the in-memory NIXL moves it."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import torch

from perigee.v1 import worker_pb2, worker_pb2_grpc
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.role import Role
from services.engine.kv_cache.cache_journal import CacheJournal
from services.engine.kv_cache.kv_pages import kv_layout, kv_region
from services.engine.kv_transfer.agents.memory_agent import InMemoryAgent, MemoryFabric
from services.engine.kv_transfer.agents.offer_proto import offer_to_proto
from services.engine.kv_transfer.transfer_thread import TransferThread
from services.engine.leases.embedding_reader import EmbeddingReader
from services.engine.peers.directory import PeerDirectory
from services.engine.serving.worker_service import WorkerBackend, WorkerServicer
from tests.support.endpoints import ENDPOINTS
from tests.support.fake_runner import HIDDEN
from tests.support.waiting import until

MODEL = worker_pb2.ModelIdentity(fingerprint=b"f" * 32, name="straw", hidden_size=HIDDEN, vocab_size=64)


def transfer_thread(
    name: str,
    fabric: MemoryFabric,
    kv_pages: torch.Tensor,
    rows: torch.Tensor,
    clock: Callable[[], float] = time.monotonic,
) -> TransferThread:
    """A started thread with a KV and an embedding region, [pages, 64, hidden]."""
    thread = TransferThread(
        InMemoryAgent(name, fabric),
        [kv_region(kv_pages), EmbeddingReader.region(rows)],
        name,
        serving_poll_s=0.0005,
        idle_poll_s=0.001,
        close_grace_s=0.05,
        clock=clock,
    )
    thread.start()
    return thread


class RecordingBackend:
    """A WorkerBackend that lends nothing and records the calls it gets."""

    def __init__(self, name: str, transfer: TransferThread, kv_pages: torch.Tensor) -> None:
        self._info = worker_pb2.WorkerInfo(
            role=worker_pb2.WORKER_ROLE_PREFILL, incarnation=name, model=MODEL, layout=kv_layout(kv_pages)
        )
        self._offer = offer_to_proto(transfer.offer())
        self.report = worker_pb2.LoadReport()
        self.cache = CacheJournal()
        self.heard: list[tuple[object, ...]] = []
        self.failure: Exception | None = None
        self.loads = 0

    def info(self) -> worker_pb2.WorkerInfo:
        return self._info

    def offer(self) -> worker_pb2.MemoryOffer:
        return self._offer

    def load(self) -> worker_pb2.LoadReport:
        self.loads += 1
        report = worker_pb2.LoadReport()
        report.CopyFrom(self.report)
        return report

    async def looks(self, count: int) -> None:
        """Returns when the server has read the load `count` more times."""
        before = self.loads
        await until(lambda: self.loads >= before + count)

    def journal(self) -> CacheJournal:
        return self.cache

    def leases_settled(self, reader: str, lease_keys: list[int]) -> None:
        self.heard.append(("settled", reader, tuple(lease_keys)))

    def reader_joined(self, reader: str) -> None:
        self.heard.append(("joined", reader))

    def reader_gone(self, reader: str) -> None:
        self.heard.append(("gone", reader))

    async def flush(self) -> worker_pb2.FlushResponse:
        return worker_pb2.FlushResponse(pages=3)

    async def drain(self) -> worker_pb2.DrainResponse:
        self.heard.append(("drain",))
        self.report.draining = True
        return worker_pb2.DrainResponse(outstanding=2)

    async def undrain(self) -> None:
        self.heard.append(("undrain",))
        self.report.draining = False

    async def check_transfer(self, address: str, role: Role, rounds: int) -> worker_pb2.CheckTransferResponse:
        self.heard.append(("check", address, role, rounds))
        return worker_pb2.CheckTransferResponse(incarnation="other-1")


class Owner:
    """A gRPC server on a free port, with WorkerService and the services that `add` adds."""

    def __init__(self, backend: WorkerBackend, endpoints: Endpoints = ENDPOINTS) -> None:
        self.backend = backend
        self._endpoints = endpoints
        self.servicer = WorkerServicer(backend)
        self.server: grpc.aio.Server | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, *add: Callable[[grpc.aio.Server], None], port: int = 0) -> None:
        """Listens; `port` takes the place of another worker."""
        self.server = self._endpoints.grpc_server()
        worker_pb2_grpc.add_WorkerServiceServicer_to_server(self.servicer, self.server)
        for function in add:
            function(self.server)
        self.port = self._endpoints.bind_grpc(self.server, "127.0.0.1", port)
        await self.server.start()

    async def stop(self) -> None:
        """Breaks every stream."""
        if self.server is not None:
            await self.server.stop(grace=None)


def peer_directory(
    name: str,
    transfer: TransferThread,
    kv_pages: torch.Tensor,
    clock: Callable[[], float] = time.monotonic,
    endpoints: Endpoints = ENDPOINTS,
) -> PeerDirectory:
    """The reader's side of pairing."""
    hello = worker_pb2.ReaderHello(
        incarnation=name, role=worker_pb2.WORKER_ROLE_DECODE, model=MODEL, layout=kv_layout(kv_pages)
    )
    return PeerDirectory(hello, transfer, endpoints, handshake_timeout_s=2.0, clock=clock)
