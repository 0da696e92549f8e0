"""What a worker is told of a request's time."""

from types import SimpleNamespace

import pytest

from perigee.v1 import sampling_pb2
from services.gateway.pipeline.prompt.rendering import TokenizedPrompt
from services.gateway.pipeline.submission import Part, Submission
from services.gateway.workers.inbox import Inbox
from services.gateway.workers.router import PromptPages
from tests.support.manual_clock import ManualClock


class Worker:
    """A decode worker, and the router that always chooses it."""

    def __init__(self):
        self.submits = []
        self.link = SimpleNamespace(address="d:1")
        self.session = self

    def submit(self, submit, inbox):
        self.submits.append(submit)
        return object()

    def require(self, *, images):
        pass

    def decode(self, pages, avoid):
        return self

    def prefill(self, pages, reader):
        return ["p:1"]


@pytest.fixture
def worker():
    return Worker()


def submission(clock, seconds):
    return Submission(
        request_id="req-test",
        prompt=TokenizedPrompt((1, 2, 3)),
        pages=PromptPages(3),
        sampling=sampling_pb2.SamplingParams(n=1),
        cache_salt="",
        priority=0,
        deadline=clock.now + seconds,
        clock=clock,
    )


async def told(worker, submission):
    await submission.send([Part(range(1))], worker, None, Inbox())
    return worker.submits[-1].timeout_ms


async def test_each_worker_is_told_what_is_left_of_the_requests_time(worker):
    clock = ManualClock()
    request = submission(clock, 60.0)
    assert await told(worker, request) == 60_000
    clock.now += 45.5
    assert await told(worker, request) == 14_500


@pytest.mark.parametrize(("seconds", "milliseconds"), [(-5.0, 1), (1e9, (1 << 32) - 1)])
async def test_a_time_that_the_message_cannot_say_is_the_nearest_it_can(worker, seconds, milliseconds):
    assert await told(worker, submission(ManualClock(), seconds)) == milliseconds
