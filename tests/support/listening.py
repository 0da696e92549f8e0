"""The network addresses at which processes can be reached, according to the kernel."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Iterator
from pathlib import Path

_LISTENS, _UNCONNECTED = "0A", "07"


def descendants(pid: int) -> Iterator[int]:
    """The process, its children, their children, and so on."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from descendants(int(child))


def listening(pid: int) -> list[tuple[str, str]]:
    """Protocol and address of each of its sockets that any program can send to."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            own.add(os.readlink(descriptor))
    found = []
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        wanted = _LISTENS if protocol.startswith("tcp") else _UNCONNECTED
        for line in Path(f"/proc/{pid}/net/{protocol}").read_text().splitlines()[1:]:
            local, state, inode = (line.split()[column] for column in (1, 3, 9))
            if state == wanted and f"socket:[{inode}]" in own:
                found.append((protocol, _address(local)))
    return found


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach it."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def _address(local: str) -> str:
    """Parses the kernel's words, each in the machine's byte order, which is little-endian here."""
    digits = local.partition(":")[0]
    words = [bytes.fromhex(digits[start : start + 8])[::-1] for start in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(b"".join(words)))
