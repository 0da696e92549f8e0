"""How gRPC notices a peer that stopped without closing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Keepalive:
    """Ping times, milliseconds; both ends take the same.

    A stopped peer is noticed within `time_ms` plus `timeout_ms`. The ping timeout has to be set beside the
    keepalive timeout: its default of a minute would win.
    """

    time_ms: int = 2000
    timeout_ms: int = 3000

    @classmethod
    def of_lessor(cls, lease_s: float) -> Keepalive:
        """For a server that leases memory for `lease_s` at a time.

        A reader that was merely stopped trusts its lease when it goes on: it must not be taken for dead,
        and its pages for free, before that lease is over.
        """
        return cls(timeout_ms=max(cls.timeout_ms, int(lease_s * 1000)))

    def channel_options(self) -> list[tuple[str, int]]:
        """Arguments of a channel."""
        return [
            ("grpc.keepalive_time_ms", self.time_ms),
            ("grpc.keepalive_timeout_ms", self.timeout_ms),
            ("grpc.http2.ping_timeout_ms", self.timeout_ms),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        ]

    def server_options(self) -> list[tuple[str, int]]:
        """Arguments of a server: the same, and leave for clients to ping as often as they do."""
        return [
            *self.channel_options(),
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", self.time_ms // 2),
        ]
