"""The options of a channel to one of Perigee's servers."""

from __future__ import annotations

from services.common.rpc.keepalive import Keepalive

MAX_MESSAGE_BYTES = 64 << 20

# A restarted worker is back within seconds; gRPC's default backoff grows to two minutes.
_RECONNECT_MIN_MS = 200
_RECONNECT_MAX_MS = 2000
# Limits one attempt to connect: TCP, TLS and the HTTP/2 settings of a server whose cores may all be busy. The
# option of gRPC core that holds this limit is "min_reconnect_backoff_ms".
_CONNECT_MS = 3000


def channel_options(keepalive: Keepalive, max_message_bytes: int) -> list[tuple[str, int]]:
    """Returns the options of a channel inside the cluster: no proxy, fast reconnection, bounded messages.

    Channels do not share connections: a new channel connects at once, however often another has failed.
    """
    return [
        *keepalive.channel_options(),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MIN_MS),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MAX_MS),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    ]
