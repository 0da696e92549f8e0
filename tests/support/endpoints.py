"""Channels and servers for tests, opened by the Endpoints of a process without a particular role."""

from __future__ import annotations

import grpc

from services.common.rpc.endpoints import Endpoints
from services.common.rpc.keepalive import Keepalive

ENDPOINTS = Endpoints("operator")
build_server = ENDPOINTS.grpc_server
bind = ENDPOINTS.bind_grpc


def open_channel(address: str, keepalive: Keepalive | None = None) -> grpc.aio.Channel:
    """A channel to any server at `address`."""
    return ENDPOINTS.channel(address, "gateway", keepalive=keepalive)


def open_sync_channel(address: str, keepalive: Keepalive | None = None) -> grpc.Channel:
    """Like `open_channel`, for threads."""
    return ENDPOINTS.sync_channel(address, "gateway", keepalive=keepalive)
