"""Which ports the suite will listen on."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack

from services.common.errors import ConfigError


def take_ports(host: str, first: int, count: int, flag: str, held: ExitStack | None = None) -> list[int]:
    """`count` free ports of `host`: those from `first` on, or any where `first` is 0.

    They are free at the time of the call; until `held` is closed nobody else is given them. Raises
    ConfigError naming the port and `flag` when one is taken.
    """
    wanted: Sequence[int] = [0] * count if first == 0 else range(first, first + count)
    with ExitStack() as own:
        sockets = [(held or own).enter_context(_listening(host, port, flag)) for port in wanted]
        return [int(found.getsockname()[1]) for found in sockets]


def _listening(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise ConfigError(f"port {port} of {host} {why}: choose another with {flag}, or 0 for any") from error
