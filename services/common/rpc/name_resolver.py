"""Addresses of names, asked of the system's resolver on threads of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from services.common.rpc.pool_address import PoolAddress, PoolEntry, PoolFile

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host and port, as literals. Raises OSError, or ValueError for what is no name."""

Look: TypeAlias = Callable[[str, int], Sequence[str]]


async def look_up(entry: PoolEntry, resolve: Resolve) -> Sequence[PoolAddress]:
    """The workers for which an entry of a pool stands now; raises OSError or ValueError if nobody knows."""
    if isinstance(entry, PoolFile):
        return await asyncio.to_thread(entry.read)
    return [entry.at(ip) for ip in await resolve(entry.host, entry.port)]


def system_look(host: str, port: int) -> Sequence[str]:
    """The system's answer; it also reads the odd spellings of addresses that connecting takes. Blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class NameResolver:
    """Looks names up, at most `num_threads` at once; more wait in order. Event loop only.

    Nothing ends a lookup that a name server keeps waiting, so it holds its thread, and its place among
    `num_threads`, when nobody wants its answer any more. No lookup keeps the process from ending.
    """

    def __init__(self, num_threads: int, look: Look = system_look) -> None:
        self._places = asyncio.Semaphore(num_threads)
        self._look = look

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses as literals, of every family. Raises OSError, or ValueError for what is no name."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Sequence[str]] = loop.create_future()
        threading.Thread(
            target=self._ask, args=(host, port, loop, answer), name=f"resolve {host}", daemon=True
        ).start()
        return await answer

    def _ask(
        self, host: str, port: int, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[Sequence[str]]
    ) -> None:
        found: Sequence[str] | OSError | ValueError
        try:
            found = self._look(host, port)
        except (OSError, ValueError) as error:
            found = error
        # A loop that is closed by now has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._end, found, answer)

    def _end(
        self, found: Sequence[str] | OSError | ValueError, answer: asyncio.Future[Sequence[str]]
    ) -> None:
        self._places.release()
        if answer.cancelled():
            return
        if isinstance(found, (OSError, ValueError)):
            answer.set_exception(found)
        else:
            answer.set_result(found)
