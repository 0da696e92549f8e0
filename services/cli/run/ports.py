"""Finds and holds ports for the suite."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext

from services.common.errors import ConfigError
from services.common.rpc.endpoints import Endpoints


def take_ports(
    endpoints: Endpoints, host: str, first: int, count: int, flag: str, held: ExitStack | None = None
) -> list[int]:
    """Returns `count` free ports of `host`: those from `first` on, or any if `first` is 0.

    The ports are free at the time of the call and are reserved until `held` is closed. Raises ConfigError
    naming the port and `flag` if one is taken.
    """
    wanted: Sequence[int] = [0] * count if first == 0 else range(first, first + count)
    with ExitStack() if held is None else nullcontext(held) as stack:
        sockets = [stack.enter_context(_listening(endpoints, host, port, flag)) for port in wanted]
        return [int(found.getsockname()[1]) for found in sockets]


def hold_shared_port(endpoints: Endpoints, host: str, wanted: int, flag: str, held: ExitStack) -> int:
    """Reserves a port that several processes can share, until `held` is closed.

    The reserving socket does not listen and so gets no connections. Raises as `take_ports` does.
    """
    (port,) = take_ports(endpoints, host, wanted, 1, flag)
    held.enter_context(endpoints.bound_socket(host, port, flag, share_port=True))
    return port


def _listening(endpoints: Endpoints, host: str, port: int, flag: str) -> socket.socket:
    found = endpoints.bound_socket(host, port, flag)
    try:
        # Bound alone, it would not keep others from the port.
        found.listen()
    except OSError as error:
        found.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another with {flag}"
        ) from error
    return found
