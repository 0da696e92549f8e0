"""What TransferThread needs of NIXL."""

from __future__ import annotations

import enum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.engine.kv_transfer.agents.region import Region


class TransferState(enum.Enum):
    """Where a posted transfer stands."""

    PROCESSING = "processing"
    DONE = "done"


class AgentError(Exception):
    """A call failed; what it was about has ended or never began."""


class PeerGone(AgentError):
    """The call failed because the peer's process or its connection is gone."""


class Handle(Protocol):
    """An agent's own object; opaque to others."""


class Agent(Protocol):
    """One NIXL agent. Not thread-safe: one thread makes all calls, `open` first.

    Every method may raise AgentError (PeerGone where the peer is at fault); `open` ConfigError too.
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
        """What a peer needs for `add_peer`, with all regions registered so far."""

    def add_peer(self, metadata: bytes) -> str:
        """Makes a peer known and returns its name. Idempotent."""

    def remove_peer(self, name: str) -> None:
        """Forgets a peer whose transfers are all settled and whose lists are released. Idempotent."""

    def prepare_local(self, region: Region) -> Handle:
        """The entries of an own, registered region as the target of reads."""

    def prepare_remote(self, peer: str, region: Region) -> Handle:
        """The entries of a peer's region (of our own, given our own name) as the source of reads."""

    def release_list(self, entries: Handle) -> None:
        """Frees a prepared list. Never called with transfers in flight over it."""

    def make_read(
        self,
        local: Handle,
        local_entries: npt.NDArray[np.int32],
        remote: Handle,
        remote_entries: npt.NDArray[np.int32],
    ) -> Handle:
        """A transfer that is not posted yet. The lists come from prepare_local and prepare_remote."""

    def post(self, transfer: Handle) -> TransferState:
        """Starts it. May copy everything before it returns, as shared-memory transports do."""

    def check(self, transfer: Handle) -> TransferState:
        """Where it stands; makes progress. Not called again after DONE or an error."""

    def release(self, transfer: Handle) -> bool:
        """Frees a transfer that has ended or was never posted. False: parts of it still run, so ask again."""

    def poll(self) -> None:
        """Serves peers' reads of our memory and lets connections progress."""

    def transport(self, peer: str) -> tuple[str, bool]:
        """(transport, rdma) as in TransportReport for a peer (or ourselves) that was read at least once."""

    def rdma_obstacle(self) -> str | None:
        """Why no path of this machine can be RDMA, None where one can."""

    def close(self) -> None:
        """Destroys the agent: from its return on no transfer moves a byte. Idempotent."""
