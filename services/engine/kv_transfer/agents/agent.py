"""The calls to NIXL that TransferThread makes."""

from __future__ import annotations

import enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.engine.kv_transfer.agents.region import Region


class TransferState(enum.Enum):
    """State of a posted transfer."""

    PROCESSING = "processing"
    DONE = "done"


class AgentError(Exception):
    """A call failed; its operation has ended or never began."""


class PeerGone(AgentError):
    """The call failed because the peer's process or its connection is gone."""


class Handle(Protocol):
    """An object of the agent, opaque to its callers."""


class Agent(Protocol):
    """One NIXL agent. Not thread-safe: one thread makes all calls, `open` first.

    Every method may raise AgentError (PeerGone if the peer caused it); `open` also ConfigError.
    """

    @property
    def name(self) -> str:
        """Unique per process start."""

    def open(self) -> None:
        """Creates the agent and its backend."""

    def register(self, region: Region) -> Handle:
        """Lets transfers touch a region; returns a token for `deregister`."""

    def deregister(self, token: Handle) -> None:
        """Undoes `register`, once no transfer touches the region."""

    def metadata(self) -> bytes:
        """Bytes for a peer's `add_peer`, with all regions registered so far."""

    def add_peer(self, metadata: bytes) -> str:
        """Makes a peer known and returns its name. Idempotent."""

    def remove_peer(self, name: str) -> None:
        """Forgets a peer whose transfers are all settled and whose lists are released. Idempotent."""

    def prepare_local(self, region: Region) -> Handle:
        """Prepares the entries of an own, registered region as the target of reads."""

    def prepare_remote(self, peer: str, region: Region) -> Handle:
        """Prepares the entries of a peer's region (our own, given our own name) as the source of reads."""

    def release_list(self, entries: Handle) -> None:
        """Frees a prepared list. No transfer over it may be in flight."""

    def make_read(
        self,
        local: Handle,
        local_entries: npt.NDArray[np.int32],
        remote: Handle,
        remote_entries: npt.NDArray[np.int32],
    ) -> Handle:
        """Creates a transfer without posting it. The lists come from prepare_local and prepare_remote."""

    def post(self, transfer: Handle) -> TransferState:
        """Starts a transfer. May copy everything before it returns, as shared-memory transports do."""

    def check(self, transfer: Handle) -> TransferState:
        """Makes progress and returns the state. Must not be called again after DONE or an error."""

    def release(self, transfer: Handle) -> bool:
        """Frees a transfer that has ended or was never posted. False: parts of it still run, so
        call again.
        """

    def poll(self) -> None:
        """Serves peers' reads of our memory and makes connections progress."""

    def transport(self, peer: str) -> tuple[str, bool]:
        """(transport, rdma) as in TransportReport for a peer (or ourselves) that was read at least once."""

    def rdma_obstacle(self, memory_type: str) -> str | None:
        """Why no path of this machine to memory of that type can be direct; None if one can."""

    def close(self) -> None:
        """Destroys the agent: after it returns, no transfer moves a byte. Idempotent."""
