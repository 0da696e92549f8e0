"""Leases that jobs hold for their readers."""

from __future__ import annotations

from collections import deque

from perigee.v1 import prefill_pb2
from services.common.errors import NotFound
from services.engine.leases.lessor import Lessor
from services.prefill.events import Refused, Released, Renewed
from services.prefill.job import Job, JobState

EXPIRED = prefill_pb2.PREFILL_REFUSAL_LEASE_EXPIRED


class JobLeases:
    """Renews the leases of jobs and confirms their releases.

    `request_renewal` and `answer_release` may be called on any thread: a reader waits for the answer, and a
    pass may be long. The others run on the engine thread.
    """

    def __init__(self, lessor: Lessor) -> None:
        self._lessor = lessor
        self._requested: deque[Job] = deque()

    def request_renewal(self, job: Job) -> None:
        """Has a job's lease renewed soon, also in the middle of a pass."""
        self._requested.append(job)

    def answer_release(self, job: Job, lease_id: int, generation: int) -> None:
        """Tells a reader that has finished whether its lease is held at this moment. The engine's `release`
        must follow.
        """
        if lease_id == job.lease_id and self._lessor.holds(lease_id, generation):
            job.emit(Released(generation))
        else:
            job.emit(Refused(EXPIRED, "the lease was over before it was released"))

    def renew_requested(self) -> list[Job]:
        """Applies the renewals that were requested; returns the jobs whose leases had run out."""
        jobs = [self._requested.popleft() for _ in range(len(self._requested))]
        return [job for job in jobs if not self.renew(job)]

    def renew(self, job: Job) -> bool:
        """Extends a job's lease by its full duration; returns False if it had run out. A job in the queue has
        none, and is only confirmed to be there.
        """
        if job.state is JobState.ENDED:
            return True
        if job.state is not JobState.WAITING:
            try:
                self._lessor.renew(job.lease_id)
            except NotFound:
                return False
        job.emit(Renewed())
        return True
