"""Limits of the gRPC door, from the gateway's settings."""

from __future__ import annotations

from services.common.sampling.controls import CONTROLS
from services.gateway.byte_budget import ByteBudget
from services.gateway.config import GatewayConfig
from services.gateway.rpc.calls import Calls
from services.gateway.rpc.request_reader import RequestReader
from services.gateway.rpc.wire_counts import WireCounts
from services.gateway.waiting import Waiting


def request_reader(config: GatewayConfig, budget: ByteBudget, calls: Calls) -> RequestReader:
    """The reader of call messages, with its limits."""
    counts = WireCounts(
        {
            "perigee.v1.ChatRequest.messages": config.max_messages,
            "perigee.v1.ChatRequest.tools": config.max_tools,
            **{f"perigee.v1.SamplingParams.{each.name}": each.most for each in CONTROLS if each.most},
        }
    )
    waiting = Waiting(config.max_waiting_connections)
    return RequestReader(calls, counts, budget, waiting, config.body_timeout_seconds)


def connection_options(config: GatewayConfig) -> list[tuple[str, int]]:
    """Server options that bound the size and time of handshake, settings and metadata."""
    milliseconds = int(1000 * config.header_timeout_seconds)
    return [
        ("grpc.max_metadata_size", config.max_header_bytes),
        ("grpc.absolute_max_metadata_size", config.max_header_bytes),
        ("grpc.max_allowed_incoming_connections", config.max_waiting_connections),
        ("grpc.server_handshake_timeout_ms", milliseconds),
        ("grpc.http2.settings_timeout", milliseconds),
    ]
