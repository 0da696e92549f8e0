"""Flags for the address of a gateway's gRPC ports, and channels to it."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from services.common.errors import ConfigError, Unavailable
from services.common.rpc.endpoints import Endpoints

DEFAULT_ADDRESS = "127.0.0.1:50050"
_OPERATOR_ADDRESS = "127.0.0.1:50049"
_CONNECT_TIMEOUT_S = 3.0


def add_address_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --address of the gRPC port for clients, for `connected`."""
    _add_address(parser, "the gateway's gRPC port", DEFAULT_ADDRESS)


def add_operator_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --address of the operator port, for `connected`."""
    _add_address(parser, "the gateway's operator port", _OPERATOR_ADDRESS)


def _add_address(parser: argparse.ArgumentParser, what: str, default: str) -> None:
    parser.add_argument(
        "--address", default=default, metavar="HOST:PORT", help=f"{what} (default: {default})"
    )


@contextmanager
def connected(address: str) -> Iterator[grpc.Channel]:
    """Opens a channel to an address where a server listens. Raises as `require_listener` does."""
    require_listener(address, "--address")
    with Endpoints("operator").sync_channel(address, "gateway") as channel:
        yield channel


def require_listener(address: str, flag: str) -> None:
    """Checks by a TCP connection that a server listens: gRPC cannot tell a missing server from a busy one.

    Raises ConfigError if `address` is not host:port, Unavailable if nothing listens; both name `flag`.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"{flag}: {address!r} is not host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise Unavailable(
            f"nothing answers at {address} ({error.strerror or error}): start the suite with `make run` or "
            f"`perigee run`, or give another address with {flag}"
        ) from error
