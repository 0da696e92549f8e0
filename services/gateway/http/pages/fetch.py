"""A small HTTP GET, enough to read a worker's metrics page."""

from __future__ import annotations

import asyncio
import re

_LENGTH = re.compile(rb"\r\nContent-Length: *([0-9]{1,15}) *(?:\r\n|$)", re.IGNORECASE)
_MOST_BYTES = 8 << 20


async def fetch_text(host: str, port: int, path: str, timeout_s: float) -> str:
    """The body of an HTTP/1.0 GET as text.

    Raises OSError: not reachable, not answered with 200, longer than 8 MiB, cut off. TimeoutError after
    `timeout_s`.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: text/plain\r\n\r\n".encode())
            head, _, body = (await read_all(reader)).partition(b"\r\n\r\n")
        finally:
            writer.close()
    status = head.split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise OSError(f"{host}:{port}{path} answered {head[:80]!r}")
    announced = _LENGTH.search(head)
    if announced is not None and int(announced[1]) != len(body):
        raise OSError(f"{host}:{port}{path} ended after {len(body)} of {int(announced[1])} bytes")
    return body.decode()


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """To the end; OSError where that is more than 8 MiB away."""
    data = bytearray()
    while block := await reader.read(1 << 16):
        data += block
        if len(data) > _MOST_BYTES:
            raise OSError(f"the page is longer than {_MOST_BYTES} bytes")
    return bytes(data)
