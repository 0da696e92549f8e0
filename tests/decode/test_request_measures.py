"""Each request's time is divided into stages, which the gateway gets with its first answer."""

from __future__ import annotations

import pytest

from services.common.errors import TransferFailed, Unavailable
from services.decode.prompts.fetch import FetchResult
from tests.support.decode_bench import Bench, medium, prompt_of
from tests.support.fake_runner import write_context
from tests.support.manual_clock import ManualClock
from tests.support.recorded_traces import RecordedTracer
from tests.support.samples import samples, stage_seconds


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def bench(clock):
    return Bench(16, clock=clock)


def end_fetch(bench, **fields):
    """A prefill worker fills the pages of the last order."""
    prompt, order = bench.io.orders[-1]
    write_context(bench.kv_pages, order.pages, order.token_ids, order.cached_pages)
    bench.engine.fetch_ended(prompt, FetchResult(None, computed_tokens=len(order.token_ids), **fields))


def test_the_stages_of_a_request_follow_each_other_from_its_arrival_to_its_last_token(bench, clock):
    heard = bench.submit(prompt_of(200), max_tokens=2, prefill=["prefill:1"])
    clock.now += 1.0  # in the queue
    bench.engine.step()
    clock.now += 4.0
    done_at = clock.now
    clock.now += 0.5
    end_fetch(bench, bytes_read=300, tail_s=0.25, done_at=done_at, read_s=2.0)
    clock.now += 0.125
    bench.engine.step()
    clock.now += 8.0
    bench.run()
    assert heard.finish() == "LENGTH"
    [stats] = heard.stats
    assert (stats.queue_s, stats.media_s, stats.prefill_s, stats.transfer_s) == (1.0, 0.0, 4.0, 0.5)
    assert stats.first_step_s == 0.125
    assert stage_seconds(bench.metrics) == {
        "queue": 1.0, "prefill": 4.0, "transfer": 0.5, "first_step": 0.125, "decode": 8.0,
    }  # fmt: skip


def test_a_prompt_computed_here_has_no_transfer_and_its_media_a_stage_of_their_own(bench, clock):
    bench.submit(prompt_of(40), media=[medium(3, 8)])
    bench.engine.step()
    clock.now += 2.0
    bench.give_media()
    bench.run()
    assert stage_seconds(bench.metrics)["media"] == 2.0
    assert "transfer" not in stage_seconds(bench.metrics)


def test_a_failed_fetch_counts_as_prefill_and_the_next_try_waits_in_the_queue_again(bench, clock):
    bench.submit(prompt_of(200), prefill=["prefill:1"])
    bench.engine.step()
    clock.now += 3.0
    bench.fail(Unavailable("gone"))
    clock.now += 1.0
    bench.run()
    seconds = stage_seconds(bench.metrics)
    assert (seconds["queue"], seconds["prefill"]) == (1.0, 3.0)


def test_transfers_are_counted_by_the_prefill_worker_they_came_from(bench):
    bench.submit(prompt_of(200), prefill=["prefill:1"])
    bench.engine.step()
    prompt, _ = bench.io.orders[-1]
    bench.engine.fetch_ended(prompt, FetchResult(TransferFailed("torn"), bytes_read=100, read_s=1.0))
    bench.engine.step()
    end_fetch(bench, bytes_read=300, tail_s=0.25, read_s=2.0)
    for name, value in (
        ("transfers", 2), ("transfer_failures", 1), ("transfer_peer_bytes", 400),
        ("transfer_busy_seconds", 3.0), ("transfer_exposed_seconds", 0.25),
    ):  # fmt: skip
        assert samples(bench.metrics, f"perigee_kv_{name}_total") == {("prefill:1",): value}, name


def test_passes_are_counted_with_their_sequences_and_prompt_tokens(bench):
    bench.submit(prompt_of(100), max_tokens=3)
    bench.run()
    assert samples(bench.metrics, "perigee_step_prompt_tokens_sum")[()] == 99
    assert samples(bench.metrics, "perigee_step_sequences_sum")[()] == 3
    passes = samples(bench.metrics, "perigee_step_seconds_count")[()]
    assert passes == samples(bench.metrics, "perigee_step_sequences_count")[()] >= 4


def test_a_request_whose_gateway_leaves_is_measured_once_and_a_refused_one_is_counted_by_reason(bench, clock):
    bench.submit(prompt_of(100), max_tokens=50)
    bench.engine.step()
    clock.now += 1.0
    bench.engine.session_ended(bench.session)
    bench.run()
    assert samples(bench.metrics, "perigee_stage_seconds_count")[("queue",)] == 1
    bench.engine.drain()
    bench.submit(prompt_of(100))
    assert samples(bench.metrics, "perigee_request_errors_total") == {("UNAVAILABLE",): 1}


def test_a_traced_request_has_a_span_from_its_arrival_to_its_end_and_prefill_gets_its_context(clock):
    tracer = RecordedTracer()
    bench = Bench(16, clock=clock, tracer=tracer)
    trace = tracer.begin("decode", {}, clock.now)
    bench.submit(prompt_of(200), max_tokens=2, prefill=["prefill:1"], trace=trace)
    bench.engine.step()
    assert bench.io.orders[-1][1].traceparent == trace.traceparent
    clock.now += 4.0
    end_fetch(bench, bytes_read=300)
    bench.run()
    assert [name for name, _, _ in trace.stages] == [
        "queue", "prefill", "transfer", "first_step", "decode",
    ]  # fmt: skip
    assert (trace.ended, trace.error) == (clock.now, "")
    assert trace.attributes["prompt_tokens"] == 200
    assert trace.attributes["transfer_bytes"] == 300


def test_the_span_of_a_request_that_fails_has_the_reason(clock):
    tracer = RecordedTracer()
    bench = Bench(16, clock=clock, tracer=tracer)
    trace = tracer.begin("decode", {}, clock.now)
    bench.submit(prompt_of(100), trace=trace, timeout_s=1.0)
    clock.now += 2.0
    bench.run()
    assert trace.error == "DEADLINE_EXCEEDED"
    assert trace.ended == clock.now
