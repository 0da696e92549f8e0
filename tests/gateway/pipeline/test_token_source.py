"""A request's tokens from workers that fail, seen from close by."""

import asyncio
from types import SimpleNamespace

import pytest

from perigee.v1 import decode_pb2, sampling_pb2
from services.common.errors import InvalidRequest, MediaLost, Overloaded, Unavailable, WorkerLost
from services.gateway.pipeline.failover_policy import FailoverPolicy
from services.gateway.pipeline.token_source import TokenSource
from services.gateway.workers.stream.token_delta import TokenDelta
from services.gateway.workers.stream.token_stream import TokenStream
from tests.support.virtual_time import advance, idle

pytestmark = pytest.mark.virtual_time
POLICY = FailoverPolicy(first_token_s=5.0, token_s=5.0, worker_wait_s=1.0, max_failovers=3)
STOP = sampling_pb2.FINISH_REASON_STOP


class Sent:
    """What was submitted, and how the test answers it."""

    def __init__(self, part, worker, news, avoid):
        self.part = part
        self.avoid = set(avoid)
        self.closed = False
        self.stream = TokenStream(id(self), worker, len(part.choices), news, self._close)

    def _close(self, stream):
        self.closed = True

    def give_token(self, token_id):
        self.stream.put_token(self.part.choices.start, token_id, asyncio.get_running_loop().time())

    def give(self, *token_ids, choice=None, finish=0, is_cut=False):
        choice = self.part.choices.start if choice is None else choice
        self.stream.put(TokenDelta(choice=choice, token_ids=token_ids, finish_reason=finish, is_cut=is_cut))


class StrawSubmission:
    """Sends to workers w1, w2, … in turn; `failures` are raised first. Sending waits for `encoded`."""

    def __init__(self, n=1):
        self.submit = decode_pb2.Submit(request_id="req-test", sampling=sampling_pb2.SamplingParams(n=n))
        self.sent: list[Sent] = []
        self.failures: list[Exception] = []
        self.rounds = 0
        self.has_media = False
        self.encoded = asyncio.Event()
        self.encoded.set()
        self.given_up = False
        self.deadline = asyncio.get_running_loop().time() + 3600.0

    async def send(self, parts, router, vision, news, avoid=()):
        try:
            await self.encoded.wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise
        if self.failures:
            raise self.failures.pop(0)
        self.rounds += 1
        made = [Sent(part, f"w{self.rounds}", news, avoid) for part in parts]
        self.sent += made
        return {each.stream: each.part for each in made}


@pytest.fixture
def failovers():
    return []


@pytest.fixture
async def make(failovers):
    made = []

    async def begin(n=1, serving=("w1", "w2"), encoding=False, last_restart_s=0.0, away_for_s=None, **policy):
        submission = StrawSubmission(n)
        now = asyncio.get_running_loop().time()
        away_since = None if away_for_s is None else now - away_for_s
        if away_for_s is not None:
            submission.failures += [Unavailable("no decode worker")] * 3

        def require(images):
            if away_for_s is not None:
                raise Unavailable("refused at once")

        if encoding:
            submission.has_media = True
            submission.encoded.clear()
        router = SimpleNamespace(
            decode_addresses=lambda: list(serving),
            require=require,
            decode_away_since=lambda: away_since,
            last_restart_s=lambda images: last_restart_s,
        )
        changed = FailoverPolicy(**{**vars(POLICY), **policy})
        clock = asyncio.get_running_loop().time
        source = TokenSource(submission, router, None, changed, lambda: failovers.append(1), clock)
        await source.open()
        made.append(source)
        return source, submission

    yield begin
    for source in made:
        source.close()


async def test_the_next_worker_gets_the_tokens_so_far_and_the_guilty_one_is_avoided(make, failovers):
    source, submission = await make()
    submission.sent[0].give(1, 2)
    await source.next()
    submission.sent[0].stream.fail(WorkerLost("w1 died"))
    going = asyncio.create_task(source.next())
    await idle()
    first, second = submission.sent
    assert first.closed
    assert (second.part.outputs, second.avoid) == ((1, 2), {"w1"})
    second.give(3, finish=STOP)
    assert list((await going)[0].token_ids) == [3]
    assert failovers == [1]


@pytest.mark.parametrize("error", [MediaLost("gone"), Unavailable("prefill worker p:1 died")])
async def test_what_another_worker_did_is_not_the_decode_workers_fault(make, error):
    source, submission = await make()
    submission.sent[0].stream.fail(error)
    going = asyncio.create_task(source.next())
    await advance(0.2)
    assert submission.sent[1].avoid == set()
    submission.sent[1].give(1)
    await going


async def test_the_last_words_of_a_worker_that_was_given_up_are_not_heard(make):
    source, submission = await make(token_s=0.05)
    submission.sent[0].give(1)
    await source.next()
    going = asyncio.create_task(source.next())
    await advance(0.1)
    submission.sent[0].give(99)
    submission.sent[0].stream.fail(Unavailable("w1 died"))
    submission.sent[1].give(2)
    assert list((await going)[0].token_ids) == [2]


async def test_the_next_workers_are_told_of_a_choice_that_was_cut(make):
    source, submission = await make(n=2)
    submission.sent[0].give(1, choice=0)
    submission.sent[0].give(2, choice=1, is_cut=True)
    submission.sent[0].give(3, choice=1)
    assert len(await source.next()) == 3
    submission.sent[0].stream.fail(WorkerLost("w1 died"))
    going = asyncio.create_task(source.next())
    await idle()
    assert [sent.part.is_cut for sent in submission.sent[1:]] == [False, True]
    submission.sent[2].give(4)
    await going
    submission.sent[2].stream.fail(WorkerLost("w2 died"))
    going = asyncio.create_task(source.next())
    await idle()
    assert submission.sent[3].part.is_cut
    submission.sent[3].give(5)
    await going


async def test_a_resumed_choice_nobody_wants_any_more_is_stopped_while_the_others_go_on(make):
    source, submission = await make(n=2)
    submission.sent[0].give(1, choice=0)
    submission.sent[0].give(2, choice=1)
    assert len(await source.next()) == 2
    submission.sent[0].stream.fail(Unavailable("w1 died"))
    going = asyncio.create_task(source.next())
    await idle()
    _, zero, one = submission.sent
    source.finish(0)
    assert (zero.closed, one.closed) == (True, False)
    one.give(3)
    assert (await going)[0].choice == 1


async def test_a_choice_that_fails_too_often_in_a_row_fails_the_request(make):
    source, submission = await make(max_failovers=1)
    submission.sent[0].give(1)
    await source.next()
    submission.sent[0].stream.fail(WorkerLost("first"))
    going = asyncio.create_task(source.next())
    await idle()
    submission.sent[1].stream.fail(WorkerLost("second"))
    with pytest.raises(WorkerLost, match="second"):
        await going


async def test_a_token_between_two_failures_makes_up_for_the_first_and_forgives_its_worker(make):
    source, submission = await make(max_failovers=1)
    for attempt in range(8):
        submission.sent[attempt].give(attempt)
        assert list((await source.next())[0].token_ids) == [attempt]
        submission.sent[attempt].stream.fail(WorkerLost(f"w{attempt} died"))
        going = asyncio.create_task(source.next())
        await idle()
        assert submission.sent[attempt + 1].avoid == {f"w{attempt + 1}"}
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)


async def test_every_worker_has_its_own_time_to_say_something(make):
    source, submission = await make(n=2, token_s=0.3, first_token_s=5.0)
    submission.sent[0].give(1, choice=0)
    submission.sent[0].give(2, choice=1)
    assert len(await source.next()) == 2
    submission.sent[0].stream.fail(WorkerLost("w1 died"))
    first = asyncio.create_task(source.next())
    await idle()
    _, zero, one = submission.sent
    one.give(3)
    await first
    # Choice 0 still waits for its first token on the new worker; choice 1 falls silent between two.
    going = asyncio.create_task(source.next())
    await advance(0.4)
    assert (zero.closed, one.closed) == (False, True)
    assert submission.sent[3].part.outputs == (2, 3)
    submission.sent[3].give(4)
    assert (await going)[0].choice == 1


async def test_a_worker_that_hangs_is_noticed_while_another_streams(make):
    source, submission = await make(n=2, token_s=0.3)
    submission.sent[0].give(1, choice=0)
    submission.sent[0].give(2, choice=1)
    assert len(await source.next()) == 2
    submission.sent[0].stream.fail(WorkerLost("w1 died"))
    going = asyncio.create_task(source.next())
    await idle()
    _, zero, one = submission.sent
    zero.give(5)
    await going
    for _ in range(10):
        one.give(3)
        await source.next()
        await advance(0.05)
    going = asyncio.create_task(source.next())
    await advance(0.05)
    assert (zero.closed, one.closed) == (True, False)
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)


async def test_a_first_submission_that_fails_under_way_is_tried_again_within_the_wait(make):
    source, submission = await make()
    submission.failures = [Unavailable("the encoder died")]
    submission.sent.clear()
    await source.open()
    assert len(submission.sent) == 1


async def test_before_the_first_token_a_full_pool_sheds_the_request_and_after_it_does_not(make):
    source, submission = await make(serving=["w1"])
    submission.sent[0].stream.fail(Overloaded("full"))
    with pytest.raises(Overloaded):
        await source.next()
    source, submission = await make(serving=["w1"])
    submission.sent[0].give(1)
    await source.next()
    submission.sent[0].stream.fail(Overloaded("full"))
    going = asyncio.create_task(source.next())
    await idle()
    submission.sent[1].give(2)
    assert list((await going)[0].token_ids) == [2]


async def test_a_missing_worker_is_waited_for_and_then_named(make):
    source, submission = await make(worker_wait_s=0.3)
    submission.sent[0].give(1)
    await source.next()
    submission.failures = [Unavailable("nobody there")]
    submission.sent[0].stream.fail(Unavailable("w1 died"))
    going = asyncio.create_task(source.next())
    await advance(0.25)
    submission.sent[1].give(2)
    await going
    submission.failures = [Unavailable("nobody there")] * 10
    submission.sent[1].stream.fail(Unavailable("w2 died"))
    with pytest.raises(Unavailable, match="w2 died; then nobody there"):
        await source.next()


@pytest.mark.parametrize(
    ("last_restart_s", "at_most_s", "waits_s"),
    [
        (0.0, 600.0, 45.0),
        (10.0, 600.0, 45.0),
        (100.0, 600.0, 200.0),
        (100.0, 50.0, 50.0),
        (1e4, 600.0, 600.0),
    ],
)
async def test_a_restart_is_waited_for_45_s_or_twice_the_last_one_within_the_setting(
    make, last_restart_s, at_most_s, waits_s
):
    source, submission = await make(last_restart_s=last_restart_s, worker_wait_s=at_most_s)
    began = asyncio.get_running_loop().time()
    submission.failures = [Unavailable("nobody there")] * 1000
    submission.sent[0].stream.fail(Unavailable("w1 died"))
    with pytest.raises(Unavailable, match="nobody there"):
        await source.next()
    # The last attempt is at most one pause of 2 s before the end.
    assert waits_s - 2 <= asyncio.get_running_loop().time() - began <= waits_s


async def test_a_new_request_waits_for_a_worker_that_has_gone_away_and_is_sent_to_it(make):
    source, submission = await make(away_for_s=0.0)
    assert submission.sent == []
    going = asyncio.create_task(source.next())
    await advance(0.9)
    submission.sent[0].give(1, finish=STOP)
    assert list((await going)[0].token_ids) == [1]


async def test_a_new_request_waits_until_the_worker_has_been_away_for_the_time_of_a_restart(make):
    source, submission = await make(away_for_s=0.6)
    began = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable, match="no decode worker"):
        await source.next()
    assert asyncio.get_running_loop().time() - began < 0.4
    assert submission.sent == []


@pytest.mark.parametrize("away_for_s", [1.1, float("inf")], ids=["too long", "since ever"])
async def test_a_new_request_is_refused_at_once_when_no_worker_is_expected_back(make, away_for_s):
    with pytest.raises(Unavailable, match="refused at once"):
        await make(away_for_s=away_for_s)


async def test_a_restart_is_not_waited_for_beyond_the_requests_deadline(make):
    source, submission = await make(last_restart_s=100.0, worker_wait_s=600.0)
    began = asyncio.get_running_loop().time()
    submission.deadline = began + 12.0
    submission.failures = [Unavailable("nobody there")] * 1000
    submission.sent[0].stream.fail(Unavailable("w1 died"))
    with pytest.raises(Unavailable, match="w1 died; then nobody there"):
        await source.next()
    assert 10 <= asyncio.get_running_loop().time() - began <= 12


async def test_a_worker_that_died_does_not_hide_when_the_next_one_will_have_room(make):
    source, submission = await make()
    submission.failures = [Overloaded("w2 is full", retry_after_s=7.0)]
    submission.sent[0].stream.fail(Unavailable("w1 died"))
    with pytest.raises(Overloaded, match="w1 died; then w2 is full") as caught:
        await source.next()
    assert caught.value.retry_after_s == 7.0


async def test_what_took_the_shortcut_is_gone_on_from_like_all_else(make, failovers):
    source, submission = await make()
    taken = []

    def take(token_id, now):
        if token_id == 9:
            return False
        taken.append(token_id)
        source.outputs[0].append(token_id)
        return True

    source.shortcuts[0] = take
    going = asyncio.create_task(source.next())
    await idle()
    first = submission.sent[0]
    first.give_token(1)
    assert list((await going)[0].token_ids) == [1], "the first token of a worker is always the caller's"
    going = asyncio.create_task(source.next())
    await idle()
    for token_id in (2, 3, 9):
        first.give_token(token_id)
    assert [list(delta.token_ids) for delta in await going] == [[9]]
    assert taken == [2, 3]
    going = asyncio.create_task(source.next())
    await idle()
    first.stream.fail(WorkerLost("w1 died"))
    await idle()
    second = submission.sent[1]
    assert second.part.outputs == (1, 2, 3, 9)
    second.give_token(4)
    assert list((await going)[0].token_ids) == [4]
    assert (taken, failovers) == ([2, 3], [1])


async def test_after_a_failure_the_next_news_of_every_worker_are_the_callers(make):
    """They say that things go on, which a shortcut does not hear."""
    source, submission = await make(n=2)
    taken = []
    submission.sent[0].give(1, choice=0)
    submission.sent[0].give(2, choice=1)
    await source.next()
    submission.sent[0].stream.fail(WorkerLost("w1 died"))
    going = asyncio.create_task(source.next())
    await idle()
    _, zero, one = submission.sent
    one.give(3)
    await going
    source.shortcuts |= {choice: lambda token_id, now: not taken.append(token_id) for choice in (0, 1)}
    going = asyncio.create_task(source.next())
    await idle()
    one.give_token(4)
    assert taken == [4]
    zero.stream.fail(WorkerLost("w2 died"))
    await idle()
    one.give_token(5)
    assert list((await going)[0].token_ids) == [5]
    assert taken == [4]


async def test_a_request_is_accepted_when_its_worker_says_so_or_answers_and_nothing_is_lost(make):
    for says in (True, False):
        source, submission = await make()
        waiting = asyncio.create_task(source.accepted(100.0))
        await idle()
        assert not waiting.done()
        if says:
            submission.sent[0].stream.accept()
        submission.sent[0].give(5)
        await waiting
        assert [list(delta.token_ids) for delta in await source.next()] == [[5]]


async def test_a_failure_before_the_acceptance_is_raised_or_cured_by_another_worker(make, failovers):
    source, submission = await make()
    waiting = asyncio.create_task(source.accepted(100.0))
    submission.sent[0].stream.fail(WorkerLost("w1 is gone"))
    await advance(0.5)
    await idle()
    assert not waiting.done()
    submission.sent[1].stream.accept()
    await waiting
    assert failovers == [1]

    source, submission = await make()
    submission.sent[0].stream.fail(InvalidRequest("the grammar does not compile"))
    with pytest.raises(InvalidRequest):
        await source.accepted(100.0)


async def test_of_a_silent_worker_the_acceptance_is_not_awaited_forever(make):
    source, submission = await make()
    began = asyncio.get_running_loop().time()
    await source.accepted(4.0)
    assert asyncio.get_running_loop().time() - began == pytest.approx(4.0)
    submission.sent[0].stream.accept()
    submission.sent[0].give(5)
    assert [list(delta.token_ids) for delta in await source.next()] == [[5]]


def now():
    return asyncio.get_running_loop().time()


async def test_acceptance_waits_for_media_no_longer_than_it_may_and_the_tokens_come_later(make):
    source, submission = await make(encoding=True)
    began = now()
    await source.accepted(15.0)
    assert (now() - began, submission.sent) == (15.0, [])
    going = asyncio.create_task(source.next())
    await advance(30.0)
    submission.encoded.set()
    await idle()
    submission.sent[0].give(1)
    assert [list(delta.token_ids) for delta in await going] == [[1]]


async def test_encoding_and_the_workers_answer_share_the_time_until_acceptance(make):
    source, submission = await make(encoding=True)
    began = now()
    waiting = asyncio.create_task(source.accepted(15.0))
    await advance(10.0)
    submission.encoded.set()
    await idle()
    assert submission.sent
    await waiting
    assert now() - began == 15.0


async def test_media_that_are_refused_in_time_are_a_failure_before_acceptance(make):
    source, submission = await make(encoding=True)
    submission.failures.append(InvalidRequest("not an image", "messages[0]"))
    waiting = asyncio.create_task(source.accepted(15.0))
    await advance(3.0)
    submission.encoded.set()
    with pytest.raises(InvalidRequest):
        await waiting


async def test_media_that_are_refused_later_are_a_failure_in_place_of_tokens(make):
    source, submission = await make(encoding=True)
    submission.failures.append(InvalidRequest("not an image", "messages[0]"))
    await source.accepted(15.0)
    submission.encoded.set()
    with pytest.raises(InvalidRequest):
        await source.next()


@pytest.mark.parametrize("waits", ["for acceptance", "for tokens"])
async def test_a_caller_that_leaves_ends_the_encoding(make, waits):
    source, submission = await make(encoding=True)
    waiting = asyncio.create_task(source.accepted(15.0) if waits == "for acceptance" else source.next())
    await idle()
    waiting.cancel()
    await idle()
    assert not submission.given_up
    source.close()
    await idle()
    assert submission.given_up
    assert not submission.sent


async def test_a_search_for_another_worker_delays_acceptance_no_longer_than_it_may(make):
    source, submission = await make()
    began = now()
    submission.encoded.clear()
    submission.sent[0].stream.fail(WorkerLost("w1 died"))
    await source.accepted(15.0)
    assert now() - began == 15.0
    submission.encoded.set()
    going = asyncio.create_task(source.next())
    await idle()
    submission.sent[1].give(7)
    assert [list(delta.token_ids) for delta in await going] == [[7]]


async def test_a_gateway_that_stood_still_takes_no_worker_for_silent_but_one_that_is(make, failovers):
    source, submission = await make()
    going = asyncio.create_task(source.next())
    await advance(1.0)
    asyncio.get_running_loop().stand_still(60.0)
    await advance(0.5)
    submission.sent[0].give(7)
    assert [list(delta.token_ids) for delta in await going] == [[7]]
    assert failovers == []

    going = asyncio.create_task(source.next())
    asyncio.get_running_loop().stand_still(60.0)
    await advance(2.0)
    await idle()
    assert failovers == [1], "nothing came in time after that either"
    going.cancel()
