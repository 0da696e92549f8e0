"""Finds and holds ports for the suite."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext

from services.common.errors import ConfigError


def take_ports(host: str, first: int, count: int, flag: str, held: ExitStack | None = None) -> list[int]:
    """Returns `count` free ports of `host`: those from `first` on, or any if `first` is 0.

    The ports are free at the time of the call and are reserved until `held` is closed. Raises ConfigError
    naming the port and `flag` if one is taken.
    """
    wanted: Sequence[int] = [0] * count if first == 0 else range(first, first + count)
    with ExitStack() if held is None else nullcontext(held) as stack:
        sockets = [stack.enter_context(_listening(host, port, flag)) for port in wanted]
        return [int(found.getsockname()[1]) for found in sockets]


def hold_shared_port(host: str, wanted: int, flag: str, held: ExitStack) -> int:
    """Reserves a port that several processes can share, until `held` is closed.

    The reserving socket does not listen and so gets no connections. Raises as `take_ports` does.
    """
    (port,) = take_ports(host, wanted, 1, flag)
    holder = held.enter_context(socket.socket(_family(host), socket.SOCK_STREAM))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((host, port))
    return port


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _listening(host: str, port: int, flag: str) -> socket.socket:
    try:
        return socket.create_server((host, port), family=_family(host))
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise ConfigError(f"port {port} of {host} {why}: choose another with {flag}, or 0 for any") from error
