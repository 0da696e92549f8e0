"""Which ports `perigee run` will want, and which of them are taken."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PortSetting:
    """A setting of `perigee run`: its default, how many ports it takes from there on, and the setting of the
    address on which they listen, if there is one.
    """

    flag: str
    first: int
    count: int = 1
    host_flag: str = ""


SETTINGS = (
    PortSetting("--http-port", 30000, host_flag="--host"),
    PortSetting("--grpc-port", 50050, host_flag="--host"),
    PortSetting("--operator-port", 50049, host_flag="--operator-host"),
    PortSetting("--port-base", 50051, 3),
    PortSetting("--metrics-port-base", 9151, 3),
)
LOOPBACK = "127.0.0.1"
# With these, perigee run listens on nothing.
_IDLE = {"--dry-run", "--help", "-h"}


def taken_ports(words: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Returns one line for each port that `perigee run` would find taken.

    `words`: its arguments. Empty where a settings file may choose the ports: only `perigee run` can read it.
    """
    if _IDLE & set(words) or _value("--config", words, env):
        return []
    return [line for setting in SETTINGS for line in _taken(setting, words, env)]


def _taken(setting: PortSetting, words: Sequence[str], env: Mapping[str, str]) -> Iterator[str]:
    given = _value(setting.flag, words, env) or str(setting.first)
    # What is no number gets a better error from perigee run.
    first = int(given) if given.isascii() and given.isdecimal() else 0
    host = _value(setting.host_flag, words, env) if setting.host_flag else ""
    for port in range(first, min(first + setting.count, 65536)) if first else ():
        if _in_use(host or LOOPBACK, port):
            yield f"port {port} is in use: stop what listens there, or choose another with {setting.flag}"


def _value(flag: str, words: Sequence[str], env: Mapping[str, str]) -> str:
    """A setting's value: of the last such flag, else of the variable."""
    found = env.get("PERIGEE_" + flag.removeprefix("--").replace("-", "_").upper(), "")
    for word, following in zip(words, [*words[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name == flag:
            found = value if equals else following
    return found


def _in_use(host: str, port: int) -> bool:
    """Whether somebody listens there. False for an address that this machine does not have."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
