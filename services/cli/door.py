"""The way to a gateway's gRPC door."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from services.common.errors import ConfigError, Unavailable
from services.common.rpc.channel import open_sync_channel

DEFAULT_ADDRESS = "127.0.0.1:50050"
_CONNECT_TIMEOUT_S = 3.0


def add_address_flag(parser: argparse.ArgumentParser) -> None:
    """--address, for `connected`."""
    parser.add_argument(
        "--address",
        default=DEFAULT_ADDRESS,
        metavar="HOST:PORT",
        help=f"the gateway's gRPC door (default: {DEFAULT_ADDRESS})",
    )


@contextmanager
def connected(address: str) -> Iterator[grpc.Channel]:
    """A channel to a door that somebody listens at. Raises as `require_listener`."""
    require_listener(address, "--address")
    with open_sync_channel(address) as channel:
        yield channel


def require_listener(address: str, flag: str) -> None:
    """gRPC cannot tell a server that is missing from one that is busy; a bare connection can.

    Raises ConfigError for what is no host:port and Unavailable where nothing listens; both name `flag`.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{flag}: {address!r} is not host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise Unavailable(
            f"nothing answers at {address} ({error.strerror or error}): start the suite with `make run` or "
            f"`perigee run`, or name another place with {flag}"
        ) from error
