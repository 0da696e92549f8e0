"""A host of the internet, as far as a download can tell: any bytes, in any rhythm, on a public address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import httpcore

from services.gateway.media.download.pinned_network import PinnedNetwork

PUBLIC = "93.184.215.14"

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """`pages`: by path, what is written to the connection. `asked`: the heads of the requests, in order."""

    def __init__(self, pages: dict[str, Answer]) -> None:
        self.pages = pages
        self.asked: list[str] = []
        self.open = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(head)
            answer = self.pages[head.split(" ")[1]]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()


def page(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    """A whole HTTP answer."""
    fields = {"Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Detour(httpcore.AnyIOBackend):
    """Reaches `server` for the address PUBLIC and nobody for others; `connected`: the addresses asked for."""

    def __init__(self, server: RawServer) -> None:
        super().__init__()
        self.server = server
        self.connected: list[str] = []

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self.connected.append(host)
        if host != PUBLIC:
            raise httpcore.ConnectError("nobody there")
        return await super().connect_tcp("127.0.0.1", self.server.port, timeout)


class Names:
    """Resolves by a table; `asked`: how often."""

    def __init__(self, table: dict[str, Sequence[Sequence[str]]]) -> None:
        self._answers = {name: list(answers) for name, answers in table.items()}
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        answers = self._answers.get(host)
        if answers is None:
            raise OSError("no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


@contextlib.asynccontextmanager
async def internet(
    pages: dict[str, Answer], names: dict[str, Sequence[Sequence[str]]] | None = None
) -> AsyncIterator[tuple[RawServer, Detour, PinnedNetwork]]:
    """A running server, and the network through which `files.example` leads to it."""
    server = RawServer(pages)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    detour = Detour(server)
    table = Names({"files.example": [[PUBLIC]], **(names or {})})
    try:
        yield server, detour, PinnedNetwork(table.resolve, detour)
    finally:
        listener.close()
