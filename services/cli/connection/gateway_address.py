"""Flags for the address of a gateway's gRPC ports and for TLS, and channels to them."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from services.cli.connection.api_key import with_api_key
from services.common.errors import ConfigError, Unavailable
from services.common.rpc.endpoints import Endpoints
from services.common.rpc.tls.security import Security
from services.common.rpc.tls.trust_domain import DEFAULT_TRUST_DOMAIN

DEFAULT_ADDRESS = "127.0.0.1:50050"
OPERATOR_ADDRESS = "127.0.0.1:50049"
SYSTEM_CA = "system"
_CONNECT_TIMEOUT_S = 3.0


def add_address_flag(parser: argparse.ArgumentParser) -> None:
    """Adds --address of the gRPC port for clients and --ca, for `connected_to_door`."""
    _add_address(parser, "the gateway's gRPC port", DEFAULT_ADDRESS)
    parser.add_argument(
        "--ca",
        metavar="FILE",
        help=f"connect by TLS; FILE: the CA of the server's certificate, or {SYSTEM_CA} for well-known ones",
    )


def add_operator_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --address of the operator port and the flags of `add_peer_flags`, for `connected`."""
    _add_address(parser, "the gateway's operator port", OPERATOR_ADDRESS)
    add_peer_flags(parser)


def add_peer_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the operator's own certificate, for `operator_endpoints`."""
    parser.add_argument(
        "--tls-dir",
        default=os.environ.get("PERIGEE_TLS_DIR", ""),
        metavar="DIR",
        help="directory of your certificate: tls.crt, tls.key, ca.crt (or PERIGEE_TLS_DIR); empty: plain TCP",
    )
    parser.add_argument(
        "--trust-domain",
        default=os.environ.get("PERIGEE_TRUST_DOMAIN", DEFAULT_TRUST_DOMAIN),
        metavar="NAME",
        help=f"as the services' setting (or PERIGEE_TRUST_DOMAIN; default: {DEFAULT_TRUST_DOMAIN})",
    )
    # No server is bound: plain TCP is the other end's choice.
    parser.set_defaults(insecure=False)


def _add_address(parser: argparse.ArgumentParser, what: str, default: str) -> None:
    parser.add_argument(
        "--address", default=default, metavar="HOST:PORT", help=f"{what} (default: {default})"
    )


@contextmanager
def connected(arguments: argparse.Namespace) -> Iterator[grpc.Channel]:
    """Opens a channel to the operator port, whose calls carry the API key in PERIGEE_API_KEY, if there is
    one. Raises ConfigError for a certificate that is of no use, else as `require_listener` does.
    """
    endpoints = Endpoints("operator", Security.of(arguments, "operator"))
    require_listener(arguments.address, "--address")
    with endpoints.sync_channel(arguments.address, "gateway") as channel:
        yield with_api_key(channel)


@contextmanager
def connected_to_door(arguments: argparse.Namespace) -> Iterator[grpc.Channel]:
    """Opens a channel to the port for clients. Raises as `connected` does."""
    ca = _ca(arguments.ca) if arguments.ca not in (None, SYSTEM_CA) else None
    require_listener(arguments.address, "--address")
    with Endpoints("operator").door_channel(arguments.address, ca, tls=bool(arguments.ca)) as channel:
        yield with_api_key(channel)


def _ca(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"--ca {path}: {error.strerror}") from error


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
