"""One request through the real suite is one trace, and every service has its part in it."""

from __future__ import annotations

import json
import urllib.request

import pytest

from benchmarks.collector import Collector
from tests.gateway.canary import CANARY
from tests.gateway.pictures import image_part, picture
from tests.support.recorded_traces import PARENT
from tests.support.stack import Stack
from tests.support.waiting import scaled, wait_until

TRACE, CALLER = PARENT.split("-")[1:3]


@pytest.fixture(scope="module")
def collector():
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def traced(nano_dir, tmp_path_factory, collector):
    with Stack(nano_dir, tmp_path_factory.mktemp("logs"), environment=collector.environment) as stack:
        stack.start()
        yield stack


def chat(stack):
    """A chat with an image, whose prompt prefill computes."""
    text = f"{CANARY} " * 100
    content = [image_part(picture()), {"type": "text", "text": text}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 20, "ignore_eos": True}
    request = urllib.request.Request(
        f"{stack.base_url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "traceparent": PARENT},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_request_is_one_trace_from_its_caller_to_every_worker(traced, collector):
    chat(traced)
    services = {"gateway", "vision", "decode", "prefill"}
    # A service's own span ends after those of its stages.
    wait_until(
        lambda: {span.service for span in collector.trace(TRACE) if " " in span.name} == services,
        scaled(20.0),
    )
    spans = collector.trace(TRACE)
    by_id = {span.span_id: span for span in spans}
    roots = {span.service: span for span in spans if span.parent not in by_id or " " in span.name}
    assert roots["gateway"].parent == CALLER
    assert by_id[roots["vision"].parent] is roots["gateway"]
    assert by_id[roots["decode"].parent] is roots["gateway"]
    assert by_id[roots["prefill"].parent] is roots["decode"]
    stages = {
        service: {span.name for span in spans if span.parent == root.span_id and " " not in span.name}
        for service, root in roots.items()
    }
    assert {"accept", "queue", "render", "submit", "prefill", "transfer", "decode", "finish"} <= stages[
        "gateway"
    ]
    assert {"queue", "prefill", "transfer", "first_step", "decode"} <= stages["decode"]
    assert {"queue", "media", "compute"} <= stages["prefill"]
    assert {"queue", "preprocess", "compute"} <= stages["vision"]
    assert len(spans) < 40  # none for each token
    assert not [span for span in spans if CANARY.lower() in str(span).lower()]


def test_the_line_of_the_request_names_its_trace_and_has_the_figures_of_its_spans(traced, collector):
    lines = [json.loads(line) for line in traced.log("gateway").splitlines() if line.startswith("{")]
    [line] = [line for line in lines if line.get("trace_id") == TRACE]
    for span in collector.trace(TRACE):
        if span.service == "gateway" and f"{span.name}_s" in line:
            assert abs((span.ended - span.began) / 1e9 - line[f"{span.name}_s"]) < 1e-5, span.name
