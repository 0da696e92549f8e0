"""All workers this gateway was told of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from perigee.v1 import worker_pb2
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.session import DecodeSession

VISION = worker_pb2.WORKER_ROLE_VISION
PREFILL = worker_pb2.WORKER_ROLE_PREFILL
DECODE = worker_pb2.WORKER_ROLE_DECODE


@dataclass(frozen=True)
class DecodeWorker:
    """A decode worker: its link and its session."""

    link: WorkerLink
    session: DecodeSession

    @property
    def serving(self) -> bool:
        return self.link.serving and self.session.connected


class WorkerPool:
    """Owns the links and sessions; `start` and `stop` bracket its life on the event loop."""

    def __init__(
        self,
        vision: Sequence[str],
        prefill: Sequence[str],
        decode: Sequence[str],
        open_channel: Callable[[str], grpc.aio.Channel],
    ) -> None:
        self.vision = tuple(WorkerLink(VISION, address, open_channel(address)) for address in vision)
        self.prefill = tuple(WorkerLink(PREFILL, address, open_channel(address)) for address in prefill)
        links = [WorkerLink(DECODE, address, open_channel(address)) for address in decode]
        self.decode = tuple(
            DecodeWorker(link, DecodeSession(link.address, link.channel, link.up)) for link in links
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def links(self) -> tuple[WorkerLink, ...]:
        """Every worker's link, by role (vision, prefill, decode), then address."""
        links = (*self.vision, *self.prefill, *(worker.link for worker in self.decode))
        return tuple(sorted(links, key=lambda link: (link.role, link.address)))

    def find(self, address: str) -> WorkerLink | None:
        """The worker configured under exactly this address."""
        return next((link for link in self.links if link.address == address), None)

    def missing_roles(self) -> tuple[str, ...]:
        """Configured roles of which no worker is serving now."""
        serving = {
            "vision": not self.vision or any(link.serving for link in self.vision),
            "prefill": not self.prefill or any(link.serving for link in self.prefill),
            "decode": any(worker.serving for worker in self.decode),
        }
        return tuple(role for role, present in serving.items() if not present)

    def context_length(self) -> int | None:
        """The shortest context among reachable decode workers, tokens; None while none is reachable."""
        lengths = [
            info.model.context_length
            for worker in self.decode
            if (info := worker.link.info) is not None and info.model.context_length
        ]
        return min(lengths, default=None)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(link.run()) for link in self.links]
        self._tasks += [asyncio.create_task(worker.session.run()) for worker in self.decode]

    async def stop(self) -> None:
        """Ends all watching and sessions (which cancels what runs on them) and closes the channels."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(link.channel.close(grace=None) for link in self.links))
