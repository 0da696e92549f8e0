"""A request ends once, wherever it stands, and its pages with it."""

from __future__ import annotations

from services.common.errors import DeadlineExceeded, MediaLost, Unavailable
from services.decode.request import Session
from tests.support.decode_bench import Bench, medium, prompt_of
from tests.support.fake_runner import greedy


def test_a_waiting_request_is_cancelled_at_once():
    bench = Bench(2)
    bench.submit(prompt_of(100), 20, prefill=["prefill:1"])
    waiting = bench.submit(prompt_of(100, 1), 4, prefill=["prefill:1"])
    bench.run()
    assert bench.engine.load.waiting == 1
    bench.engine.cancel(bench.session, 2)
    assert waiting.finish() == "CANCELLED"
    assert bench.engine.load.waiting == 0


def test_pages_of_a_cancelled_fetch_are_kept_until_it_has_ended():
    bench = Bench(4)
    heard = bench.submit(prompt_of(100), 4, prefill=["prefill:1"])
    bench.run()
    bench.engine.cancel(bench.session, 1)
    assert heard.finish() == "CANCELLED"
    assert len(bench.io.stopped) == 1
    bench.run()
    assert bench.engine.load.pages.used == 2, "a read may still be posted into them"
    at_risk = bench.fail(Unavailable("cancelled"), at_risk=1)
    counts = bench.engine.load.pages
    assert (counts.used, counts.quarantined) == (0, 1)
    bench.engine.pages_settled(at_risk)
    bench.check_free()


def test_a_fetch_that_ends_well_after_the_cancel_frees_its_pages_too():
    bench = Bench(4)
    heard = bench.submit(prompt_of(100), 4, prefill=["prefill:1"])
    bench.run()
    bench.engine.cancel(bench.session, 1)
    bench.fill()
    bench.run()
    assert heard.finish() == "CANCELLED"
    bench.check_free()


def test_a_second_cancel_changes_nothing():
    bench = Bench(4)
    heard = bench.submit(prompt_of(100), 4, prefill=["prefill:1"])
    bench.run()
    bench.engine.cancel(bench.session, 1)
    bench.engine.cancel(bench.session, 1)
    bench.engine.cancel(bench.session, 99)
    assert heard.finish() == "CANCELLED"
    assert len(bench.io.stopped) == 1
    bench.fail(Unavailable("cancelled"))
    bench.check_free()


def test_a_request_that_waits_for_an_embedding_can_be_cancelled():
    bench = Bench(4)
    heard = bench.submit(prompt_of(10), 4, media=[medium(2, 3)])
    bench.run()
    bench.engine.cancel(bench.session, 1)
    assert heard.finish() == "CANCELLED"
    bench.give_media()
    bench.engine.media_failed(bench.io.media[0][0], MediaLost("too late"))
    bench.run()
    bench.check_free()


def test_a_request_can_be_cancelled_between_the_chunks_of_its_prompt():
    bench = Bench(8, chunk_tokens=64, local_prefill_tokens=1000)
    heard = bench.submit(prompt_of(300), 4)
    bench.engine.step()
    bench.engine.cancel(bench.session, 1)
    bench.run()
    assert heard.finish() == "CANCELLED"
    assert len(bench.runner.batches) == 1
    bench.check_free()


def test_all_running_choices_are_cancelled_and_finished_ones_stay_so():
    bench = Bench(8)
    heard = bench.submit(prompt_of(10), 50, n=2)
    for _ in range(5):
        bench.engine.step()
    told = len(heard.tokens[0])
    bench.engine.cancel(bench.session, 1)
    bench.run()
    assert (heard.finish(0), heard.finish(1)) == ("CANCELLED", "CANCELLED")
    assert len(heard.tokens[0]) == told
    bench.check_free()


def test_a_session_that_ends_takes_everything_of_its_own_along_and_nothing_else():
    bench = Bench(16, max_running=3)
    other_news: list[object] = []
    other = Session(other_news.append)
    fetching = bench.request(prompt_of(100), session=other, prefill=["prefill:1"])
    for request in (
        fetching,
        bench.request(prompt_of(5), 50, session=other),
        bench.request(prompt_of(5), 50),
        bench.request(prompt_of(9), 50, session=other),
    ):
        bench.engine.submit(request)
    bench.engine.step()
    heard_before = len(other_news)
    bench.engine.session_ended(other)
    bench.fail(Unavailable("stopped"))
    bench.run()
    assert len(other_news) == heard_before
    assert other.requests == {}
    assert bench.heard[3].tokens[0] == greedy(prompt_of(5), 50)
    bench.check_free()


def test_an_embedding_lost_after_the_session_ended_is_nobodys_news():
    bench = Bench(4)
    news: list[object] = []
    gone = Session(news.append)
    bench.engine.submit(bench.request(prompt_of(10), media=[medium(2, 3)], session=gone))
    bench.run()
    news.clear()  # that it is accepted
    bench.engine.session_ended(gone)
    bench.engine.media_failed(bench.io.media[0][0], MediaLost("gone"))
    bench.run()
    assert news == []
    bench.check_free()


def test_a_deadline_ends_a_request_wherever_it_stands():
    bench = Bench(16, max_running=3)
    late = [
        bench.submit(prompt_of(100), 4, prefill=["prefill:1"], timeout_s=0.0),
        bench.submit(prompt_of(10), 4, media=[medium(2, 3)], timeout_s=0.0),
        bench.submit(prompt_of(10), 4, timeout_s=0.0),
    ]
    bench.run()
    for heard in late:
        assert heard.finish() == "ERROR"
        assert isinstance(heard.errors[0], DeadlineExceeded)
    assert bench.io.orders == []
    fetching = bench.submit(prompt_of(100), 4, prefill=["prefill:1"])
    bench.engine.step()
    bench.session.requests[4].deadline = 0.0
    bench.engine.step()
    assert fetching.finish() == "ERROR"
    bench.fail(Unavailable("stopped"))
    bench.check_free()
