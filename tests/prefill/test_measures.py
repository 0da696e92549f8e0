"""Each job's time is divided into stages."""

from __future__ import annotations

from tests.support.decode_bench import prompt_of
from tests.support.prefill_bench import PrefillBench
from tests.support.recorded_traces import RecordedTracer
from tests.support.samples import samples, stage_seconds


def test_the_stages_of_a_job_follow_each_other_from_its_arrival_to_its_last_page():
    bench = PrefillBench(16)
    bench.submit(prompt_of(200), cached_pages=1, source="decode:1")
    bench.clock.now += 1.0
    bench.engine.step()
    bench.clock.now += 0.5
    bench.end_read(arrived=1)
    bench.clock.now += 2.0
    bench.run()
    assert stage_seconds(bench.metrics) == {"queue": 1.0, "source": 0.5, "compute": 2.0}
    assert samples(bench.metrics, "perigee_step_prompt_tokens_sum") == {(): 136.0}
    assert samples(bench.metrics, "perigee_kv_transfer_peer_bytes_total") == {("decode:1",): 100}


def test_a_job_that_is_given_up_is_measured_once():
    bench = PrefillBench(16)
    reader = bench.submit(prompt_of(200))
    bench.engine.step()
    bench.engine.abandon(reader.job)
    bench.engine.abandon(reader.job)
    assert samples(bench.metrics, "perigee_stage_seconds_count") == {("queue",): 1}


def test_refusals_are_counted_by_reason():
    bench = PrefillBench(2)
    bench.submit(prompt_of(200))
    bench.engine.drain()
    bench.submit(prompt_of(64))
    bench.submit(prompt_of(64))
    counts = samples(bench.metrics, "perigee_request_errors_total")
    assert counts == {("TOO_LONG",): 1, ("DRAINING",): 2}


def test_a_traced_job_has_a_span_until_its_last_page_or_its_refusal():
    tracer = RecordedTracer()
    bench = PrefillBench(16, tracer=tracer)
    reader = bench.submit(prompt_of(200), trace=tracer.begin("prefill", {}, bench.clock.now))
    bench.clock.now += 1.0
    bench.run()
    bench.clock.now += 1.0
    bench.engine.release(reader.job)
    bench.engine.drain()
    bench.submit(prompt_of(64), trace=tracer.begin("prefill", {}, bench.clock.now))
    done, refused = tracer.traces
    assert [name for name, _, _ in done.stages] == ["queue", "compute"]
    assert (done.ended, done.error) == (bench.clock.now - 1.0, "")
    assert done.attributes["prompt_tokens"] == 200
    assert refused.error == "DRAINING"
