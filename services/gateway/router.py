"""Which workers a request goes to. No field of a request takes part in the choice but its content hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from services.common.errors import Unavailable
from services.gateway.workers.link import WorkerLink
from services.gateway.workers.pool import DecodeWorker, WorkerPool


class Router:
    """Chooses by load and reachability; a worker that drains or cannot be reached is never chosen."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def decode(self) -> DecodeWorker:
        """The least loaded decode worker; raises Unavailable when none is left."""
        serving = [worker for worker in self._pool.decode if worker.serving]
        if not serving:
            raise _none_left("decode", [worker.link for worker in self._pool.decode])
        return min(serving, key=lambda worker: worker.link.pressure)

    def prefill(self) -> list[str]:
        """Prefill addresses, least loaded first; empty only if none is configured. Raises Unavailable."""
        serving = sorted(
            (link for link in self._pool.prefill if link.serving), key=lambda link: link.pressure
        )
        if self._pool.prefill and not serving:
            raise _none_left("prefill", self._pool.prefill)
        if serving:
            serving[0].note_sent()
        return [link.address for link in serving]

    def vision(self, content_hash: bytes) -> list[WorkerLink]:
        """Vision workers for an image, best first: the same image goes to the same encoder while it serves.

        Rendezvous hashing (Thaler and Ravishankar 1998): losing a worker moves only that worker's images.
        Raises Unavailable when none is left.
        """
        serving = [link for link in self._pool.vision if link.serving]
        if not serving:
            raise _none_left("vision", self._pool.vision)
        return sorted(serving, key=lambda link: _weight(content_hash, link.address), reverse=True)


def _weight(content_hash: bytes, address: str) -> bytes:
    return hashlib.sha256(content_hash + address.encode()).digest()


def _none_left(role: str, links: Sequence[WorkerLink]) -> Unavailable:
    states = [f"{link.address} {'is draining' if link.reachable else 'is unreachable'}" for link in links]
    return Unavailable(f"no {role} worker can serve: {', '.join(states) or 'none is configured'}")
