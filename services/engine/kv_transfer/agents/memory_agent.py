"""In-memory NIXL for unit tests: agents of one process, joined by a fabric in which tests inject faults.

Bytes really move between the addresses of the regions when a read completes.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.engine.kv_transfer.agents.agent import AgentError, Handle, PeerGone, TransferState
from services.engine.kv_transfer.agents.region import Region


@dataclass(eq=False)
class _List:
    """Prepared entries of an agent's region."""

    agent: str
    region: Region


@dataclass(eq=False)
class _Read:
    """`pairs` are (local address, remote address), `size` bytes each."""

    peer: str
    size: int
    pairs: tuple[tuple[int, int], ...]
    state: TransferState | None = None


@dataclass
class MemoryFabric:
    """Joins the agents and holds the faults that tests inject. Set the fields before the reads they
    affect.
    """

    agents: dict[str, InMemoryAgent] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    """Agents that hang: reads from them stay PROCESSING until the agent leaves this set."""
    failing_posts: Counter[str] = field(default_factory=Counter)
    """How many posts to an agent fail for a reason other than its death."""
    corrupting: Counter[str] = field(default_factory=Counter)
    """How many reads from an agent deliver a flipped bit in their first byte."""
    dead: set[str] = field(default_factory=set)
    """Agents that were killed: reads from them raise PeerGone, nothing moves."""


class InMemoryAgent:
    """Agent over a MemoryFabric."""

    def __init__(self, name: str, fabric: MemoryFabric) -> None:
        """Joins the fabric when opened."""
        self._name = name
        self._fabric = fabric
        self._registered: list[Region] = []
        self._peers: set[str] = set()
        self._processing: set[_Read] = set()
        self.live_transfers = 0
        self.live_lists = 0
        self.polls = 0
        self.rdma = False

    @property
    def name(self) -> str:
        """See Agent."""
        return self._name

    def open(self) -> None:
        """See Agent."""
        self._fabric.agents[self._name] = self

    def register(self, region: Region) -> Handle:
        """See Agent."""
        self._registered.append(region)
        return region

    def deregister(self, token: Handle) -> None:
        """See Agent."""
        self._registered = [region for region in self._registered if region is not token]

    def metadata(self) -> bytes:
        """See Agent."""
        return f"in-memory:{self._name}".encode()

    def add_peer(self, metadata: bytes) -> str:
        """See Agent."""
        kind, _, name = metadata.decode(errors="replace").partition(":")
        if kind != "in-memory":
            raise AgentError("the metadata is not from an agent")
        if name not in self._fabric.agents:
            raise PeerGone(f"{name} does not exist")
        self._peers.add(name)
        return name

    def remove_peer(self, name: str) -> None:
        """See Agent."""
        assert not any(read.peer == name for read in self._processing), "removed with reads in flight"
        self._peers.discard(name)

    def prepare_local(self, region: Region) -> Handle:
        """See Agent."""
        return self._prepare(self._name, region)

    def prepare_remote(self, peer: str, region: Region) -> Handle:
        """See Agent."""
        if peer != self._name and peer not in self._peers:
            raise PeerGone(f"{peer} is not known")
        return self._prepare(peer, region)

    @property
    def num_posted(self) -> int:
        """Number of reads that are posted and not done."""
        return len(self._processing)

    def release_list(self, entries: Handle) -> None:
        """See Agent."""
        self.live_lists -= 1

    def make_read(
        self,
        local: Handle,
        local_entries: npt.NDArray[np.int32],
        remote: Handle,
        remote_entries: npt.NDArray[np.int32],
    ) -> Handle:
        """See Agent."""
        assert isinstance(local, _List)
        assert isinstance(remote, _List)
        ours, theirs = _addresses(local.region, local_entries), _addresses(remote.region, remote_entries)
        self.live_transfers += 1
        return _Read(remote.agent, local.region.entry_bytes, tuple(zip(ours, theirs, strict=True)))

    def post(self, transfer: Handle) -> TransferState:
        """See Agent."""
        read = _read(transfer)
        if self._fabric.failing_posts[read.peer]:
            self._fabric.failing_posts[read.peer] -= 1
            raise AgentError("the post was refused")
        read.state = TransferState.PROCESSING
        self._processing.add(read)
        return self.check(transfer)

    def check(self, transfer: Handle) -> TransferState:
        """See Agent."""
        read = _read(transfer)
        assert read.state is TransferState.PROCESSING, "checked before its post or after its end"
        if read.peer in self._fabric.dead:
            read.state = None
            self._processing.discard(read)
            raise PeerGone(f"{read.peer} is gone")
        if read.peer not in self._fabric.held:
            read.state = TransferState.DONE
            self._processing.discard(read)
            self._move(read)
        return read.state

    def release(self, transfer: Handle) -> bool:
        """See Agent."""
        assert _read(transfer).state is not TransferState.PROCESSING, "released in flight"
        self.live_transfers -= 1
        return True

    def poll(self) -> None:
        """See Agent."""
        self.polls += 1

    def transport(self, peer: str) -> tuple[str, bool]:
        """See Agent."""
        return "in-memory", self.rdma

    def rdma_obstacle(self, memory_type: str) -> str | None:
        """See Agent."""
        return None if self.rdma else "memory is no RDMA device"

    def close(self) -> None:
        """See Agent."""
        self._fabric.dead.add(self._name)

    def _prepare(self, agent: str, region: Region) -> Handle:
        owner = self._fabric.agents[agent]
        if region not in owner._registered:
            raise AgentError(f"{agent} has not registered that region")
        self.live_lists += 1
        return _List(agent, region)

    def _move(self, read: _Read) -> None:
        for ours, theirs in read.pairs:
            ctypes.memmove(ours, theirs, read.size)
        if self._fabric.corrupting[read.peer] and read.pairs:
            self._fabric.corrupting[read.peer] -= 1
            first = ctypes.c_uint8.from_address(read.pairs[0][0])
            first.value ^= 1


def _addresses(region: Region, entries: npt.NDArray[np.int32]) -> Iterable[int]:
    return [region.base_address + int(entry) * region.entry_bytes for entry in entries]


def _read(transfer: Handle) -> _Read:
    assert isinstance(transfer, _Read)
    return transfer
