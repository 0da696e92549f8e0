"""Spans of OpenTelemetry's SDK from the timeline of a request."""

from __future__ import annotations

import threading
import time

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from services.common.telemetry.otel import OtelTracer
from services.common.telemetry.timeline import Timeline
from tests.support.recorded_traces import PARENT
from tests.support.waiting import scaled

PARENT_TRACE, PARENT_SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


def timeline():
    """A request that came at 100 s: queue, render with a grammar in it, decode."""
    times = Timeline()
    times.add("queue", 100.0, 101.0)
    times.add("grammar", 101.25, 101.5)
    times.add("render", 101.0, 102.0)
    times.add("decode", 102.0, 105.0)
    return times


def exported(carried, error=""):
    """The spans of one request by name, and the context that was passed on."""
    exporter = InMemorySpanExporter()
    tracer = OtelTracer("gateway", exporter)
    trace = tracer.begin("rest /v1/chat/completions", carried, 100.0)
    tracer.end(trace, timeline(), 105.5, {"status": 200}, error, within={"grammar": "render"})
    tracer.close()
    return {span.name: span for span in exporter.get_finished_spans()}, trace


def test_a_request_has_a_span_and_one_below_it_for_each_stage():
    spans, _ = exported({})
    root = spans.pop("rest /v1/chat/completions")
    assert set(spans) == {"queue", "grammar", "render", "decode"}
    assert root.parent is None
    assert {spans[name].parent.span_id for name in ("queue", "render", "decode")} == {root.context.span_id}
    assert spans["grammar"].parent.span_id == spans["render"].context.span_id
    assert dict(root.attributes) == {"perigee.status": 200}
    seconds = {name: (span.end_time - span.start_time) / 1e9 for name, span in spans.items()}
    assert seconds == {"queue": 1.0, "grammar": 0.25, "render": 1.0, "decode": 3.0}
    assert (root.end_time - root.start_time) / 1e9 == 5.5
    assert spans["queue"].start_time == root.start_time


def test_times_are_those_of_the_day():
    exporter = InMemorySpanExporter()
    tracer = OtelTracer("gateway", exporter)
    now = time.monotonic()
    tracer.end(tracer.begin("encode", {}, now), Timeline(), now + 1.0, {})
    tracer.close()
    [span] = exporter.get_finished_spans()
    assert abs(span.start_time / 1e9 - time.time()) < 5.0


def test_the_trace_of_the_caller_goes_on_and_is_passed_on():
    spans, trace = exported({"traceparent": PARENT, "tracestate": "other=1"})
    root = spans["rest /v1/chat/completions"]
    assert (root.context.trace_id, root.parent.span_id) == (PARENT_TRACE, PARENT_SPAN)
    assert root.context.trace_state.get("other") == "1"
    assert trace.traceparent == f"00-{PARENT_TRACE:032x}-{root.context.span_id:016x}-01"
    assert trace.trace_id == f"{PARENT_TRACE:032x}"


@pytest.mark.parametrize("carried", ["", "nonsense", PARENT[:-3], "00-" + "0" * 32 + PARENT[35:], PARENT * 9])
def test_a_context_that_is_none_begins_a_trace(carried):
    spans, trace = exported({"traceparent": carried})
    assert spans["rest /v1/chat/completions"].parent is None
    assert trace.trace_id != f"{PARENT_TRACE:032x}"


def test_a_failure_is_marked_by_its_reason():
    spans, _ = exported({}, error="OVERLOADED")
    status = spans["rest /v1/chat/completions"].status
    assert (status.status_code, status.description) == (StatusCode.ERROR, "OVERLOADED")


def test_what_the_caller_does_not_sample_is_not_recorded_but_passed_on():
    spans, trace = exported({"traceparent": PARENT[:-2] + "00"})
    assert not spans
    assert trace.trace_id == ""
    assert trace.traceparent.startswith(f"00-{PARENT_TRACE:032x}-")
    assert trace.traceparent.endswith("-00")


def test_the_sampler_is_that_of_the_variables(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    spans, trace = exported({"traceparent": PARENT})
    assert (spans, trace.trace_id) == ({}, "")


def test_a_service_has_the_name_of_its_role_or_that_of_the_variables(monkeypatch):
    spans, _ = exported({})
    resource = spans["queue"].resource.attributes
    assert (resource["service.name"], resource["perigee.role"]) == ("perigee-gateway", "gateway")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    spans, _ = exported({})
    assert spans["queue"].resource.attributes["service.name"] == "mine"


class Stuck(SpanExporter):
    """A collector that never answers."""

    def __init__(self):
        self.released = threading.Event()
        self.entered = threading.Event()
        self.exported = 0

    def export(self, spans):
        self.entered.set()
        self.released.wait(60.0)
        self.exported += len(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self):
        """Nothing to do."""


def test_a_collector_that_hangs_costs_neither_requests_nor_memory_nor_the_end():
    stuck = Stuck()
    tracer = OtelTracer("gateway", stuck)
    for _ in range(3000):
        tracer.end(tracer.begin("rest /generate", {}, 100.0), timeline(), 105.5, {})
    assert stuck.entered.wait(scaled(10.0))
    began = time.monotonic()
    tracer.close()
    assert time.monotonic() - began < scaled(5.0)
    stuck.released.set()
    assert stuck.exported <= 2048 + 128  # the queue, and what was on its way


def test_a_tracer_that_is_closed_takes_no_more_spans_and_raises_nothing():
    exporter = InMemorySpanExporter()
    tracer = OtelTracer("gateway", exporter)
    trace = tracer.begin("rest /generate", {}, 100.0)
    tracer.close()
    tracer.end(trace, timeline(), 105.5, {})
    assert not exporter.get_finished_spans()
