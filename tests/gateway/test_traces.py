"""A request's trace: it goes on from its caller to its workers, and its spans are the stages of its line."""

from __future__ import annotations

import pytest
import structlog
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from perigee.v1 import chat_pb2, chat_pb2_grpc
from services.common.telemetry.otel import OtelTracer
from services.gateway.request_record import STAGES, WITHIN
from tests.gateway import canary
from tests.gateway.canary import CANARY
from tests.gateway.pictures import image_part, picture
from tests.gateway.suite import open_suite
from tests.support.recorded_traces import PARENT

TRACE = PARENT.split("-")[1]


class Traced:
    """A gateway over fake workers, and the spans it emits."""

    def __init__(self, suite, tracer, exporter):
        self.suite = suite
        self._tracer = tracer
        self._exporter = exporter

    def spans(self):
        """All spans so far; the tracer takes no more afterwards."""
        self._tracer.close()
        return self._exporter.get_finished_spans()


@pytest.fixture
async def traced():
    exporter = InMemorySpanExporter()
    tracer = OtelTracer("gateway", exporter)
    async with open_suite(tracer=tracer) as suite:
        yield Traced(suite, tracer, exporter)


@pytest.fixture
def lines():
    """All that is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured


def hexadecimal(span):
    return f"{span.context.span_id:016x}"


async def test_the_callers_trace_goes_on_and_workers_get_the_gateways_span(traced):
    content = [image_part(picture()), {"type": "text", "text": "What is it?"}]
    body = {"messages": [{"role": "user", "content": content}]}
    answer = await traced.suite.http.post("/v1/chat/completions", json=body, headers={"traceparent": PARENT})
    assert answer.status_code == 200
    [root] = [span for span in traced.spans() if span.name == "rest /v1/chat/completions"]
    assert f"{root.parent.span_id:016x}" == PARENT.split("-")[2]
    passed_on = f"00-{TRACE}-{hexadecimal(root)}-01"
    assert [submit.traceparent for submit in traced.suite.decode.submits] == [passed_on]
    assert traced.suite.vision.traceparents == [passed_on]


async def test_over_grpc_it_comes_in_metadata(traced):
    stub = chat_pb2_grpc.ChatServiceStub(traced.suite.channel)
    message = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])
    await stub.Complete(chat_pb2.ChatRequest(messages=[message]), metadata=(("traceparent", PARENT),))
    [root] = [span for span in traced.spans() if span.name == "grpc ChatService/Complete"]
    assert f"{root.context.trace_id:032x}" == TRACE


async def test_the_spans_of_stages_follow_each_other_and_are_the_figures_of_the_line(traced, lines):
    traced.suite.decode.step_s = 0.02
    traced.suite.decode.seconds = {"queue_seconds": 0.0001, "prefill_seconds": 0.0002}
    await traced.suite.chat()
    spans = {span.name: span for span in traced.spans()}
    root = spans.pop("rest /v1/chat/completions")
    [line] = [line for line in lines if line["event"] == "request"]
    assert line["trace_id"] == f"{root.context.trace_id:032x}"
    for name, span in spans.items():
        assert name in STAGES
        assert abs((span.end_time - span.start_time) / 1e9 - line.get(f"{name}_s", 0.0)) < 1e-5, name
        holder = spans[WITHIN[name]] if name in WITHIN else root
        assert span.parent.span_id == holder.context.span_id
        assert holder.start_time <= span.start_time <= span.end_time <= holder.end_time
    steps = sorted(
        (span for name, span in spans.items() if name not in WITHIN), key=lambda span: span.start_time
    )
    assert [span.name for span in steps] == [
        stage for stage in STAGES if stage in {span.name for span in steps}
    ]
    assert abs((root.end_time - root.start_time) / 1e9 - line["total_s"]) < 1e-5
    attributes = root.attributes
    for name in ("request_id", "completion_id", "status", "finish", "model", "prompt_tokens", "total_s"):
        assert attributes[f"perigee.{name}"] == line[name]


async def test_there_are_few_spans_however_many_tokens(traced):
    traced.suite.say("word " * 300)
    await traced.suite.chat(stream=True)
    assert len(traced.spans()) <= 1 + len(STAGES)


async def test_a_failed_request_has_the_reason_in_its_span(traced):
    await traced.suite.chat(model="other")
    [root] = traced.spans()
    assert (root.status.status_code, root.status.description) == (StatusCode.ERROR, "MODEL_NOT_FOUND")
    assert root.attributes["perigee.status"] == 404


async def test_without_a_tracer_a_callers_context_is_not_passed_on(suite):
    await suite.http.post(
        "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "Hi"}]},
        headers={"traceparent": PARENT},
    )
    assert [submit.traceparent for submit in suite.decode.submits] == [""]


async def test_what_clients_write_stands_in_no_span(traced):
    traced.suite.say(f"{CANARY}</think>{CANARY}")
    for route, body in canary.bodies():
        headers = {"content-type": "application/json"}
        await traced.suite.http.post(route, content=body, headers=headers)
    for name, value in canary.HEADERS:
        await traced.suite.http.post("/generate", json={"text": "x"}, headers={name: value})
    spans = traced.spans()
    assert len(spans) > 500
    shown = [
        text
        for span in spans
        for text in (span.name, span.status.description, *map(str, span.attributes.items()))
        if text and CANARY.lower() in text.lower()
    ]
    assert not shown
