"""Keepalive settings, by which gRPC detects a peer that stopped without closing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Keepalive:
    """Ping times in milliseconds, the same on both ends.

    A stopped peer is detected within `time_ms` plus `timeout_ms`. HTTP/2's ping timeout must be set besides
    the keepalive timeout: otherwise its default of a minute applies.
    """

    time_ms: int = 2000
    timeout_ms: int = 3000

    @classmethod
    def of_lessor(cls, lease_s: float) -> Keepalive:
        """Returns the settings of a server that leases memory for `lease_s` seconds at a time.

        A reader that was only paused trusts its lease when it resumes. It must not be regarded as dead, and
        its pages as free, before that lease has expired.
        """
        return cls(timeout_ms=max(cls.timeout_ms, int(lease_s * 1000)))

    def channel_options(self) -> list[tuple[str, int]]:
        """Returns options of a channel."""
        return [
            ("grpc.keepalive_time_ms", self.time_ms),
            ("grpc.keepalive_timeout_ms", self.timeout_ms),
            ("grpc.http2.ping_timeout_ms", self.timeout_ms),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        ]

    def server_options(self) -> list[tuple[str, int]]:
        """Returns options of a server: those of a channel, and permission for clients to ping that often."""
        return [
            *self.channel_options(),
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", self.time_ms // 2),
        ]
