"""What TransferThread needs of NIXL."""

from __future__ import annotations

import enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.engine.kv_transfer.region import Region


class TransferState(enum.Enum):
    """Where a posted transfer stands."""

    PROCESSING = "processing"
    DONE = "done"


class AgentError(Exception):
    """A call failed; what it was about has ended or never began."""


class PeerGone(AgentError):
    """The call failed because the peer's process or its connection is gone."""


class BlockList(Protocol):
    """A prepared list of blocks, of ours or of a peer; opaque."""


class Transfer(Protocol):
    """A posted or ready transfer; opaque."""


class Agent(Protocol):
    """One NIXL agent. Not thread-safe: one thread makes all calls from `register` on.

    Every method may raise AgentError (PeerGone where the peer is at fault) and nothing else.
    """

    @property
    def name(self) -> str:
        """Unique per process start."""

    def register(self, region: Region) -> object:
        """Makes a region readable and writable by transfers; returns a token for `deregister`."""

    def deregister(self, token: object) -> None:
        """Undoes `register`, once no transfer touches the region."""

    def metadata(self) -> bytes:
        """What a peer needs for `add_peer`, with all regions registered so far."""

    def add_peer(self, metadata: bytes) -> str:
        """Makes a peer known and returns its name. Idempotent."""

    def remove_peer(self, name: str) -> None:
        """Forgets a peer, once all its transfers are settled; its block lists are void from there on."""

    def prepare_local(self, region: Region) -> BlockList:
        """The blocks of an own, registered region as the target of reads."""

    def prepare_remote(self, peer: str, region: Region) -> BlockList:
        """The blocks of a peer's region (or of our own, with our own name) as the source of reads."""

    def release_list(self, blocks: BlockList) -> None:
        """Frees a prepared list. Never called with transfers in flight over it."""

    def make_read(
        self,
        local: BlockList,
        local_blocks: npt.NDArray[np.int32],
        remote: BlockList,
        remote_blocks: npt.NDArray[np.int32],
    ) -> Transfer:
        """A read that is not posted yet."""

    def post(self, transfer: Transfer) -> TransferState:
        """Starts it; small ones, or all of them on some transports, are DONE on return."""

    def check(self, transfer: Transfer) -> TransferState:
        """Where it stands; makes progress. Not called again after DONE or an error."""

    def release(self, transfer: Transfer) -> bool:
        """Frees an ended or never posted transfer. False: parts of it still run, so ask again later."""

    def poll(self) -> None:
        """Serves peers' reads of our memory and makes connections progress."""

    def transport(self, peer: str) -> tuple[str, bool]:
        """(transport, rdma) of the path to a peer after a first transfer, as in TransportReport."""

    def close(self) -> None:
        """Destroys the agent; from there on no transfer moves a byte. Idempotent."""
