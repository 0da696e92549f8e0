"""Options of the client's channel: retries, keepalive, sizes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_MESSAGE_BYTES = 256 << 20

# gRPC keeps a request until its call has begun to be answered. Larger requests are not retried.
_RETRIED_BYTES = 32 << 20

# gRPC makes no more, whatever the policy says.
_MOST_ATTEMPTS = 5

# The service config counts milliseconds; beyond a day, waiting is not retrying.
_LEAST, _MOST = 0.001, 86_400.0


@dataclass(frozen=True)
class RetryPolicy:
    """How often and when gRPC repeats a call that failed as UNAVAILABLE or RESOURCE_EXHAUSTED.

    A call is repeated only before its first message, so a stream never starts again. The delay before the
    next attempt is the one that the server names. If it names none, the delay is random, up to
    `initial_backoff_s` seconds; that bound grows by `multiplier` with each attempt, up to `max_backoff_s`.
    The call's deadline spans all attempts.
    """

    max_attempts: int = 4
    initial_backoff_s: float = 0.2
    max_backoff_s: float = 5.0
    multiplier: float = 2.0

    def __post_init__(self) -> None:
        if not 2 <= self.max_attempts <= _MOST_ATTEMPTS:
            raise ValueError(
                f"max_attempts is {self.max_attempts}, not 2 to {_MOST_ATTEMPTS} (retry=None: no retries)"
            )
        for name in ("initial_backoff_s", "max_backoff_s", "multiplier"):
            if not _LEAST <= getattr(self, name) <= _MOST:
                raise ValueError(f"{name} is {getattr(self, name)}, not {_LEAST:g} to {_MOST:g}")

    def service_config(self) -> str:
        """Returns the policy as a gRPC service config, for all methods."""
        policy = {
            "maxAttempts": self.max_attempts,
            "initialBackoff": _seconds(self.initial_backoff_s),
            "maxBackoff": _seconds(self.max_backoff_s),
            "backoffMultiplier": self.multiplier,
            "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
        }
        return json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})


@dataclass(frozen=True)
class Keepalive:
    """How a server that stopped without closing is noticed: pings every `interval_s` seconds, each answered
    within `timeout_s`; without open calls only if `while_idle`.
    """

    interval_s: float = 20.0
    timeout_s: float = 10.0
    while_idle: bool = False

    def __post_init__(self) -> None:
        for name in ("interval_s", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")

    def channel_options(self) -> list[tuple[str, Any]]:
        """Returns options of a channel."""
        timeout_ms = int(self.timeout_s * 1000)
        return [
            ("grpc.keepalive_time_ms", int(self.interval_s * 1000)),
            ("grpc.keepalive_timeout_ms", timeout_ms),
            ("grpc.http2.ping_timeout_ms", timeout_ms),
            ("grpc.keepalive_permit_without_calls", int(self.while_idle)),
            ("grpc.http2.max_pings_without_data", 0),
        ]


def channel_options(
    retry: RetryPolicy | None, keepalive: Keepalive | None, more: Sequence[tuple[str, Any]]
) -> list[tuple[str, Any]]:
    """Returns the options of a client's channel; `more` come last and win."""
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.per_rpc_retry_buffer_size", _RETRIED_BYTES),
        ("grpc.enable_retries", int(retry is not None)),
        *([("grpc.service_config", retry.service_config())] if retry else []),
        *(keepalive.channel_options() if keepalive else []),
        *more,
    ]


def _seconds(value: float) -> str:
    return f"{value:.3f}s"
