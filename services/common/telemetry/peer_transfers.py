"""What a worker has read from each of its peers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

# Workers that are replaced come back under other addresses, without end.
_MOST_PEERS = 64

_COUNTERS = (
    ("perigee_kv_transfers", "Transfers of a request's KV from a peer", "reads"),
    ("perigee_kv_transfer_failures", "Those that failed, so that the KV came from elsewhere", "failures"),
    ("perigee_kv_transfer_peer_bytes", "Bytes of KV read from a peer", "num_bytes"),
    ("perigee_kv_transfer_busy_seconds", "Seconds in which a request's reads were in flight", "busy_s"),
    ("perigee_kv_transfer_exposed_seconds", "Those in which it waited for nothing else", "exposed_s"),
)
"""Name, help and field of each counter."""


@dataclass
class _Peer:
    reads: int = 0
    failures: int = 0
    num_bytes: int = 0
    busy_s: float = 0.0
    exposed_s: float = 0.0


class PeerTransfers(Collector):
    """Counts transfers of KV by peer. It forgets the peer that was read longest ago where there are more than
    64. Noted on one thread.
    """

    def __init__(self) -> None:
        self._peers: dict[str, _Peer] = {}

    def note(self, address: str, num_bytes: int, busy_s: float, exposed_s: float, *, failed: bool) -> None:
        """Notes a transfer that has ended: the bytes that arrived, the seconds in which some read was in
        flight, and those of them in which the request waited for nothing else.
        """
        peer = self._peers.pop(address, None) or _Peer()
        self._peers[address] = peer
        peer.reads += 1
        peer.failures += failed
        peer.num_bytes += num_bytes
        peer.busy_s += busy_s
        peer.exposed_s += exposed_s
        if len(self._peers) > _MOST_PEERS:
            del self._peers[next(iter(self._peers))]

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Prometheus': five counters, by peer."""
        peers = list(self._peers.items())
        for name, about, field in _COUNTERS:
            family = CounterMetricFamily(name, about, labels=["peer"])
            for address, peer in peers:
                family.add_metric([address], getattr(peer, field))
            yield family
