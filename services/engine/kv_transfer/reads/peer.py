"""The transfer thread's state of one peer incarnation."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from services.engine.kv_transfer.agents.agent import Handle
from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.agents.transport_report import TransportReport
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.inbox import Connect, Disconnect
from services.engine.kv_transfer.reads.probe_buffer import ProbeBuffer


class PeerState(enum.Enum):
    """CONNECTING -> READY <-> CHECKING, both -> BROKEN -> RENEWING -> CONNECTING; any -> REMOVING -> gone."""

    CONNECTING = "connecting"
    """The first probe is being read; reads wait."""
    READY = "ready"
    CHECKING = "checking"
    """Long unused, so a probe is read first; reads wait."""
    BROKEN = "broken"
    """Its connection is gone; reads fail for a moment, then the next read renews it."""
    RENEWING = "renewing"
    """Reconnects when the last transfer has ended; reads wait."""
    REMOVING = "removing"
    """Reads fail; forgotten when the last transfer has ended."""


@dataclass(eq=False)
class TransferPeer:
    """`lists` are the peer's regions prepared as sources; its probe is read into `landing`."""

    offer: Offer
    landing: ProbeBuffer
    state: PeerState = PeerState.CONNECTING
    lists: dict[RegionKind, Handle] = field(default_factory=dict)
    landing_token: Handle | None = None
    landing_list: Handle | None = None
    flights: int = 0
    waiting: deque[ActiveRead] = field(default_factory=deque)
    established: bool = False
    """It was READY once, so callers rely on it: a failure breaks it but does not remove it."""
    report: TransportReport | None = None
    reason: str = ""
    broken_at: float = 0.0
    last_used: float = 0.0
    connects: list[Connect] = field(default_factory=list)
    """Callers that wait for READY; those that come while REMOVING reconnect after it."""
    disconnects: list[Disconnect] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its agent name."""
        return self.offer.agent_name
