"""What a worker gets of a request: all of it, its own part, and the time that is left."""

from types import SimpleNamespace

import pytest

from perigee.v1 import decode_pb2, sampling_pb2, scores_pb2, vision_pb2
from services.gateway.media.images import PromptImage
from services.gateway.pipeline.submission import Part, Submission
from services.gateway.request_record import RequestRecord
from services.gateway.workers.router import PromptPages
from services.gateway.workers.stream.inbox import Inbox
from services.gateway.workers.stream.prompt_scores import PromptScores
from services.gateway.workers.stream.token_stream import TokenStream
from tests.support.manual_clock import ManualClock


class Worker:
    """A decode worker, and the router that always chooses it."""

    def __init__(self):
        self.submits = []
        self.link = SimpleNamespace(address="d:1")
        self.session = self
        self.stream = object()

    def submit(self, submit, inbox):
        self.submits.append(submit)
        return self.stream

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
    submit = decode_pb2.Submit(prompt_token_ids=(1, 2, 3), sampling=sampling_pb2.SamplingParams(n=1))
    return Submission(submit, (), PromptPages(3), clock.now + seconds, RequestRecord(), clock)


def picture(byte):
    return PromptImage(data=b"", content_hash=bytes([byte]) * 32, num_tokens=2, param="")


class Vision:
    """Every embedding is at the address given last."""

    address = ""

    async def encode(self, media, deadline, tenant, traceparent):
        return {
            each.content_hash: vision_pb2.MediaRef(
                content_hash=each.content_hash, num_tokens=each.num_tokens, address=self.address
            )
            for each in media
        }


async def test_a_part_that_is_sent_again_has_nothing_of_the_first_time(worker):
    request = submission(ManualClock(), 60.0)
    parts = [Part(range(2)), Part(range(1, 2), outputs=(7, 8), is_cut=True), Part(range(1))]
    for part in parts:
        await request.send([part], worker, None, Inbox())
    sent = [
        (list(each.output_token_ids), each.output_is_cut, each.first_choice, each.sampling.n)
        for each in worker.submits
    ]
    assert sent == [([], False, 0, 2), ([7, 8], True, 1, 1), ([], False, 0, 1)]
    assert {tuple(each.prompt_token_ids) for each in worker.submits} == {(1, 2, 3)}
    assert [list(each.prefill_addresses) for each in worker.submits] == [["p:1"]] * 3


async def test_each_medium_goes_with_its_place_and_where_its_embedding_is_now(worker):
    media, vision = (picture(1), picture(2), picture(1)), Vision()
    submit = decode_pb2.Submit(sampling=sampling_pb2.SamplingParams(n=1))
    for medium, offset in zip(media, (3, 6, 9), strict=True):
        submit.media.add(content_hash=medium.content_hash, token_offset=offset, num_tokens=2)
    request = Submission(submit, media, PromptPages(20), 60.0, RequestRecord(), ManualClock())
    for vision.address in ("v:1", "v:2"):
        await request.send([Part(range(1))], worker, vision, Inbox())
        assert [
            (medium.content_hash[0], medium.token_offset, medium.num_tokens, medium.address)
            for medium in worker.submits[-1].media
        ] == [(1, 3, 2, vision.address), (2, 6, 2, vision.address), (1, 9, 2, vision.address)]


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


async def test_scores_are_asked_for_until_they_are_complete(worker):
    clock, scores = ManualClock(), PromptScores(1, 2, 0)
    submit = decode_pb2.Submit(prompt_token_ids=(1, 2, 3), sampling=sampling_pb2.SamplingParams(n=1))
    submit.scoring.first_token = 1
    sent = Submission(submit, (), PromptPages(3), clock.now + 9, RequestRecord(), clock, scores)
    worker.stream = TokenStream(1, "d:1", 1, Inbox(), lambda stream: None)
    for complete in (False, False, True):
        if complete:
            scores.take(scores_pb2.PromptScores(first_token=1, logprobs=[-1, -2], ranks=[1, 1]))
        await sent.send([Part(range(1))], worker, Vision(), Inbox())
        assert worker.submits[-1].HasField("scoring") is not complete
    assert worker.stream.scores is scores
