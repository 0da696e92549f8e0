"""A job ends once, its reader hears it, and its pages come back when no read can touch them."""

from __future__ import annotations

import pytest

from services.engine.leases.lease_table import Lease
from services.prefill.events import Admitted, Done
from tests.support.decode_bench import medium, prompt_of
from tests.support.prefill_bench import PrefillBench, Reader


def in_state(bench: PrefillBench, state: str) -> Reader:
    """A job of 150 tokens that stands where asked."""
    if state == "waiting":
        blocker = bench.submit(prompt_of(256, 9), reader="blocker")
        bench.run()
        reader = bench.submit(prompt_of(150))
        bench.run()
        assert reader.job.state.value == state
        bench.engine.release(blocker.job)
        return reader
    media = [medium(2, 3)] if state == "needs media" else []
    reader = bench.submit(prompt_of(150), media=media)
    if state == "done":
        bench.run()
    else:
        bench.engine.step()
    assert reader.job.state.value == state
    return reader


STATES = ["waiting", "needs media", "computing", "done"]


@pytest.mark.parametrize("state", STATES)
def test_a_release_frees_everything_at_once(state):
    bench = PrefillBench(4, chunk_tokens=64)
    reader = in_state(bench, state)
    bench.engine.release(reader.job)
    bench.check_free()
    bench.engine.abandon(reader.job)  # the stream's end follows
    bench.check_free()


@pytest.mark.parametrize("state", STATES)
def test_a_release_is_confirmed_only_where_its_lease_is_held(state):
    bench = PrefillBench(4, chunk_tokens=64)
    reader = in_state(bench, state)
    lease = reader.all(Admitted)[0].lease if state != "waiting" else Lease(0, 0, (), "", 0, 0.0, 0.0)
    bench.engine.leases.answer_release(reader.job, lease.id + 1, lease.generation + 1)
    assert reader.refusal() == "LEASE_EXPIRED"
    heard = len(reader.events)
    bench.engine.leases.answer_release(reader.job, lease.id, lease.generation)
    assert reader.kinds()[heard:] == ["Refused" if state == "waiting" else "Released"]


@pytest.mark.parametrize("end", ["settled", "reader_gone", "abandon", "expired"])
def test_a_release_of_a_lease_that_ended_before_is_refused(end):
    bench = PrefillBench(4, lease_s=0.01 if end == "expired" else 60.0)
    reader = in_state(bench, "done")
    lease = reader.all(Admitted)[0].lease
    if end == "settled":
        bench.engine.settled("decode-a", [reader.job.lease_key])
    elif end == "reader_gone":
        bench.engine.reader_gone("decode-a")
        bench.engine.reader_joined("decode-a")
    elif end == "abandon":
        bench.engine.abandon(reader.job)
    else:
        bench.clock.now += 0.02  # and the engine has not looked yet
    bench.engine.leases.answer_release(reader.job, lease.id, lease.generation)
    assert reader.refusal() == "LEASE_EXPIRED"
    bench.engine.release(reader.job)
    bench.check_free()


@pytest.mark.parametrize("state", STATES)
def test_pages_of_a_broken_stream_stay_in_quarantine_until_the_reader_says_settled(state):
    bench = PrefillBench(4, chunk_tokens=64)
    reader = in_state(bench, state)
    heard = len(reader.events)
    bench.engine.abandon(reader.job)
    bench.run()
    assert bench.engine.load.pages.quarantined == (0 if state == "waiting" else 3)
    assert bench.engine.load.running == 0
    bench.engine.settled("decode-b", [reader.job.lease_key])
    bench.engine.step()
    assert bench.engine.load.pages.quarantined == (0 if state == "waiting" else 3), "another reader's word"
    bench.engine.settled("decode-a", [reader.job.lease_key])
    bench.check_free()
    assert len(reader.events) == heard


@pytest.mark.parametrize("state", STATES)
def test_a_reader_that_is_gone_takes_its_jobs_and_leases_along(state):
    bench = PrefillBench(4, chunk_tokens=64)
    other = bench.submit(prompt_of(5), reader="decode-b") if state != "waiting" else None
    reader = in_state(bench, state)
    bench.engine.reader_gone("decode-a")
    if state != "done":
        assert reader.refusal() == "FAILED", "a stream that is still open must hear it"
    bench.run()
    if other is not None:
        assert other.kinds()[-1] == "Done"
        bench.engine.release(other.job)
    bench.engine.abandon(reader.job)
    bench.check_free()


@pytest.mark.parametrize("state", ["needs media", "computing"])
def test_a_job_whose_lease_is_called_settled_ends_and_its_stream_hears_it(state):
    bench = PrefillBench(4, chunk_tokens=64)
    reader = in_state(bench, state)
    bench.engine.settled("decode-a", [reader.job.lease_key])
    assert reader.refusal() == "FAILED"
    bench.check_free()


def test_a_lease_called_settled_before_its_request_came_is_refused():
    bench = PrefillBench(4)
    bench.engine.settled("decode-a", [77])
    reader = bench.submit(prompt_of(150), key=77)
    bench.run()
    assert reader.refusal() == "FAILED"
    bench.check_free()


def test_a_reader_that_is_gone_is_refused_until_it_joins_again():
    bench = PrefillBench(4)
    bench.engine.reader_gone("decode-a")
    refused = bench.submit(prompt_of(10))
    bench.run()
    assert refused.refusal() == "FAILED"
    bench.engine.reader_joined("decode-a")
    taken = bench.submit(prompt_of(10))
    bench.run()
    assert taken.kinds()[-1] == "Done"


def test_a_lease_key_used_twice_is_refused_and_the_first_lease_stays():
    bench = PrefillBench(8)
    first = bench.submit(prompt_of(100), key=5)
    bench.run()
    second = bench.submit(prompt_of(100, 1), key=5)
    bench.run()
    assert second.refusal() == "FAILED"
    bench.engine.abandon(second.job)
    assert first.context() == prompt_of(100)
    assert bench.engine.load.pages.leased == 2
    bench.engine.release(first.job)
    bench.check_free()


def test_embeddings_that_cannot_be_had_end_the_job():
    bench = PrefillBench(4)
    reader = in_state(bench, "needs media")
    bench.engine.media_failed(reader.job, "evicted")
    assert reader.refusal() == "MEDIA_LOST"
    bench.engine.media_failed(reader.job, "again")
    bench.engine.abandon(reader.job)
    bench.engine.settled("decode-a", [reader.job.lease_key])
    bench.check_free()


def test_embeddings_that_come_after_the_end_change_nothing():
    bench = PrefillBench(4)
    reader = in_state(bench, "needs media")
    bench.engine.abandon(reader.job)
    bench.engine.media_arrived(reader.job, {})
    bench.engine.settled("decode-a", [reader.job.lease_key])
    bench.run()
    assert bench.runner.batches == []
    bench.check_free()


def test_an_expired_lease_leaves_its_pages_in_quarantine_and_a_renewal_hears_it():
    bench = PrefillBench(4, lease_s=0.01)
    reader = in_state(bench, "done")
    bench.clock.now += 0.02
    bench.engine.step()
    counts = bench.engine.load.pages
    assert (counts.leased, counts.quarantined) == (0, 3)
    bench.engine.renew(reader.job)
    assert reader.refusal() == "LEASE_EXPIRED"
    bench.engine.settled("decode-a", [reader.job.lease_key])
    bench.check_free()


def test_a_lease_that_expires_while_it_is_computed_ends_in_a_refusal_and_frees_its_pages():
    bench = PrefillBench(4, chunk_tokens=64, lease_s=0.01)
    reader = in_state(bench, "computing")
    bench.clock.now += 0.02
    bench.engine.renew(reader.job)
    assert reader.refusal() == "LEASE_EXPIRED"
    bench.run()
    assert len(bench.runner.batches) == 1, "nothing is computed for nobody"
    bench.engine.abandon(reader.job)
    bench.engine.settled("decode-a", [reader.job.lease_key])
    bench.check_free()


def test_a_renewed_lease_lives_on():
    bench = PrefillBench(4, lease_s=0.15)
    reader = in_state(bench, "done")
    for _ in range(4):
        bench.clock.now += 0.05
        bench.engine.renew(reader.job)
        bench.engine.step()
    assert reader.kinds()[-4:] == ["Renewed"] * 4
    assert bench.engine.load.pages.leased == 3


def test_a_full_queue_and_a_prompt_beyond_the_pool_are_refused():
    bench = PrefillBench(4, max_waiting=1)
    bench.submit(prompt_of(256))
    bench.run()
    bench.submit(prompt_of(10))
    assert bench.submit(prompt_of(20)).refusal() == "OVERLOADED"
    assert bench.submit(prompt_of(257)).refusal() == "TOO_LONG"


def test_a_draining_engine_refuses_what_is_new_and_finishes_what_runs():
    bench = PrefillBench(8, chunk_tokens=64)
    running = bench.submit(prompt_of(150))
    bench.engine.step()
    assert bench.engine.drain() == 1
    assert bench.submit(prompt_of(10)).refusal() == "DRAINING"
    bench.run()
    assert running.context() == prompt_of(150)


def test_an_undrained_engine_admits_again():
    bench = PrefillBench(8)
    bench.engine.drain()
    assert bench.submit(prompt_of(150)).kinds()[-1] == "Refused"
    bench.engine.undrain()
    reader = bench.submit(prompt_of(150, 7))
    bench.run()
    assert reader.kinds()[-1] == "Done"


def test_a_job_that_came_just_before_the_drain_is_part_of_the_load_at_once():
    bench = PrefillBench(8)
    bench.submit(prompt_of(10))
    assert bench.engine.drain() == 1
    assert bench.engine.load.waiting == 1


def test_a_renewal_that_comes_during_a_long_pass_is_applied_before_the_pass_ends():
    bench = PrefillBench(4, lease_s=0.2)
    reader = bench.submit(prompt_of(100))
    heard: list[list[str]] = []
    forward = bench.runner.forward

    def slow_forward(batch, on_layers, on_scored):
        def on_slow_layers(first, end):
            bench.clock.now += 0.15
            bench.engine.leases.request_renewal(reader.job)
            on_layers(first, end)
            heard.append(reader.kinds())

        return forward(batch, on_slow_layers)

    bench.runner.forward = slow_forward
    bench.run()
    assert heard[0].count("Renewed") == 1
    assert reader.kinds().count("Renewed") == 2
    assert reader.refusal() is None
    assert bench.engine.load.pages.leased == 2


def test_a_renewal_too_late_is_refused_after_the_pass_that_was_under_way():
    bench = PrefillBench(4, chunk_tokens=64, lease_s=0.05)
    reader = bench.submit(prompt_of(100))
    forward = bench.runner.forward

    def slow_forward(batch, on_layers, on_scored):
        bench.clock.now += 0.1
        bench.engine.leases.request_renewal(reader.job)
        return forward(batch, on_layers)

    bench.runner.forward = slow_forward
    bench.run()
    assert reader.refusal() == "LEASE_EXPIRED"
    bench.engine.settled("decode-a", [reader.job.lease_key])
    bench.check_free()


def test_a_pass_whose_readers_have_all_gone_stops_between_two_layers(monkeypatch):
    bench = PrefillBench(8, chunk_tokens=512)
    reader, other = bench.submit(prompt_of(300)), bench.submit(prompt_of(100, 1))
    forward, layers = bench.runner.forward, []

    def forward_with_hangups(batch, on_layers, on_scored):
        def hang_up(first: int, end: int) -> None:
            layers.append(first)
            reader.job.abandoned = other.job.abandoned = True
            on_layers(first, end)

        return forward(batch, hang_up)

    with monkeypatch.context() as patched:
        patched.setattr(bench.runner, "forward", forward_with_hangups)
        bench.engine.step()
    assert layers == [0]
    assert bench.engine.load.computed_tokens == 0
    for gone in (reader, other):
        bench.engine.abandon(gone.job)
        bench.engine.settled("decode-a", [gone.job.lease_key])
    bench.check_free()
    again = bench.submit(prompt_of(300))
    bench.run()
    assert again.context() == prompt_of(300)
    assert again.all(Done)[0].computed_tokens == 300


def test_a_pass_of_a_group_goes_on_whoever_has_gone_because_the_other_ranks_do(monkeypatch):
    bench = PrefillBench(8, chunk_tokens=512)
    monkeypatch.setattr(type(bench.runner), "interruptible", False)
    reader = bench.submit(prompt_of(300))
    reader.job.abandoned = True
    bench.run()
    assert bench.engine.load.computed_tokens == 300
    bench.engine.settled("decode-a", [reader.job.lease_key])
    bench.check_free()


def test_a_pass_that_somebody_still_waits_for_goes_on():
    bench = PrefillBench(8, chunk_tokens=512)
    gone, other = bench.submit(prompt_of(300)), bench.submit(prompt_of(100, 1))
    gone.job.abandoned = True
    bench.run()
    assert other.context() == prompt_of(100, 1)
