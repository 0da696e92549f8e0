"""Files by URL, from allowed hosts, within bounds of size and time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import httpcore

from services.common.errors import InvalidRequest
from services.gateway.media.download.allowed_hosts import AllowedHosts
from services.gateway.media.download.location import Location

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 3
MOST_AT_ONCE = 32
_MOST_AT_ONCE_OF_A_REQUEST = 8
# Nothing is decompressed: what a few bytes may swell to is not known before.
_HEADERS = ((b"Accept", b"image/*, video/*"), (b"Accept-Encoding", b"identity"), (b"User-Agent", b"perigee"))
_FAILURES = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    httpcore.ProxyError,
)


@dataclass
class Allowance:
    """What the files of one request may take: bytes together, of which `left` are left, and turns at once.

    So one request whose hosts take their time leaves turns, and threads that resolve names, to others.
    """

    left: int
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_MOST_AT_ONCE_OF_A_REQUEST))


class Downloader:
    """`timeout_s`: for one file, its wait for a turn and redirects included.

    `network`: how hosts are reached; see PinnedNetwork.
    """

    def __init__(self, hosts: AllowedHosts, timeout_s: float, network: httpcore.AsyncNetworkBackend) -> None:
        self._hosts = hosts
        self._timeout_s = timeout_s
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        # No connection is kept: each is made to an address that was checked for it.
        self._pool = httpcore.AsyncConnectionPool(
            # It takes a while to make, and few gateways fetch anything.
            ssl_context=httpcore.default_ssl_context() if hosts else None,
            max_connections=MOST_AT_ONCE,
            max_keepalive_connections=0,
            network_backend=network,
        )

    async def fetch(self, url: str, limit: int, allowance: Allowance) -> bytes:
        """The file, whatever its content type says: what it is shows in its bytes.

        Raises UnsupportedValue for a URL that is not allowed, InvalidRequest for one that does not lead to a
        file of at most `limit` bytes in time.
        """
        location = Location.parse(url, self._hosts)
        try:
            async with asyncio.timeout(self._timeout_s), allowance.turns, self._turns:
                return await self._follow(location, limit, allowance)
        except TimeoutError as error:
            raise InvalidRequest(f"the file did not arrive within {self._timeout_s:g} s") from error
        except _FAILURES as error:
            raise InvalidRequest(f"the file cannot be fetched: {error or type(error).__name__}") from error

    async def close(self) -> None:
        await self._pool.aclose()

    async def _follow(self, location: Location, limit: int, allowance: Allowance) -> bytes:
        for _ in range(_MOST_REDIRECTS + 1):
            async with self._pool.stream("GET", location.url, headers=list(_HEADERS)) as response:
                headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status not in _REDIRECTS:
                    return await _read(response, headers, limit, allowance)
            if b"location" not in headers:
                raise InvalidRequest("the host redirects to nowhere")
            location = location.redirected(headers[b"location"], self._hosts)
        raise InvalidRequest(f"the host redirects more than {_MOST_REDIRECTS} times")


async def _read(
    response: httpcore.Response, headers: dict[bytes, str], limit: int, allowance: Allowance
) -> bytes:
    if response.status != 200:
        raise InvalidRequest(f"the host answers with status {response.status}")
    if headers.get(b"content-encoding", "identity").strip().lower() != "identity":
        raise InvalidRequest("the host compresses the file although it was asked not to")
    announced = headers.get(b"content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    data = bytearray()
    async for chunk in response.aiter_stream():
        data += chunk
        allowance.left -= len(chunk)
        if len(data) > limit:
            raise _too_large(limit)
        if allowance.left < 0:
            raise InvalidRequest("the files of this request are too large together")
    return bytes(data)


def _too_large(limit: int) -> InvalidRequest:
    return InvalidRequest(f"the file is larger than {limit} bytes")
