"""Which kinds of requests the gateway can serve now."""

from __future__ import annotations

from services.gateway.admission import Admission
from services.gateway.workers.pool import AnyWorker, RolePool, WorkerPool


class Readiness:
    """Derived from the serving workers and from whether the gateway is shutting down. `begun` is noticed only
    when a property is read, so probes must read it regularly.
    """

    def __init__(self, pool: WorkerPool, admission: Admission) -> None:
        self._pool = pool
        self._admission = admission
        self._begun = False

    @property
    def stopping(self) -> bool:
        """Whether nothing new is admitted any more."""
        return self._admission.closed

    @property
    def text(self) -> bool:
        """Whether text can be served: decode is all it takes."""
        return not self.stopping and _serves(self._pool.decode)

    @property
    def images(self) -> bool:
        """Whether images can be served, too, and videos where this gateway reads any."""
        return self.text and _serves(self._pool.vision)

    @property
    def ready(self) -> bool:
        """Whether what this gateway is for can be served: text, or without any worker configured, tokens."""
        ready = self.text or not (self._pool.configured or self.stopping)
        self._begun = self._begun or ready
        return ready

    @property
    def begun(self) -> bool:
        """Whether it ever was ready."""
        return self.ready or self._begun


def _serves(role: RolePool[AnyWorker]) -> bool:
    return any(worker.serving for worker in role.workers)
