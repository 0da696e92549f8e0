"""A request's time is divided into stages without gaps, and its line has the same figures as the metrics."""

from __future__ import annotations

import asyncio

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from services.gateway.access.key_file import KeyFile
from services.gateway.access.key_record import KeyRecord
from services.gateway.access.secret import digest, new_key
from services.gateway.request_record import STAGES, WITHIN
from tests.gateway.pictures import image_part, picture
from tests.gateway.suite import open_suite, wait_until
from tests.gateway.tools import TOOLS
from tests.support.waiting import scaled

STEPS = [stage for stage in STAGES if stage not in WITHIN]
AFTER_FIRST = ("decode", "finish")
# What takes no time of its own lies between two stages: a few statements.
GAP_S = 0.02


@pytest.fixture
def lines():
    """All that is logged."""
    with structlog.testing.capture_logs() as captured:
        yield captured


async def line_of(lines):
    """The line of the only request."""
    await wait_until(lambda: any(line["event"] == "request" for line in lines))
    [line] = [line for line in lines if line["event"] == "request"]
    return line


async def shown(suite, name):
    """The samples of this name on the gateway's page, by label values."""
    page = (await suite.http.get("/metrics")).text
    return {
        tuple(sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    }


def seconds(line, stages):
    return sum(line.get(f"{stage}_s", 0.0) for stage in stages)


@pytest.mark.parametrize("stream", [True, False])
async def test_the_stages_of_a_request_add_up_to_its_time(suite, lines, stream):
    suite.decode.step_s = 0.05
    suite.decode.seconds = {
        "queue_seconds": 0.001,
        "prefill_seconds": 0.003,
        "transfer_seconds": 0.002,
        "first_step_seconds": 0.004,
    }
    suite.decode.admit.clear()
    asking = asyncio.create_task(suite.chat(stream=stream))
    await wait_until(lambda: suite.decode.submits)
    await asyncio.sleep(0.05)  # time that no stage of the worker explains
    suite.decode.admit.set()
    await asking
    line = await line_of(lines)
    assert abs(seconds(line, STEPS) - line["total_s"]) < scaled(GAP_S)
    before = [stage for stage in STEPS if stage not in AFTER_FIRST]
    assert abs(seconds(line, before) - line["first_token_s"]) < scaled(GAP_S)
    assert (line["worker_queue_s"], line["prefill_s"], line["transfer_s"]) == (0.001, 0.003, 0.002)
    assert line["first_step_s"] == 0.004
    assert line["transit_s"] >= 0.03
    assert line["decode_s"] >= 0.05


async def test_what_a_worker_says_it_needed_never_exceeds_what_the_gateway_waited(suite, lines):
    suite.decode.seconds = {"queue_seconds": 10.0, "prefill_seconds": 50.0}
    await suite.chat()
    line = await line_of(lines)
    assert line["worker_queue_s"] < line["total_s"] < 10.0
    assert "prefill_s" not in line


async def test_a_grammar_is_part_of_rendering_and_encoding_of_submitting(suite, lines):
    content = [image_part(picture()), {"type": "text", "text": "What is it?"}]
    await suite.chat(messages=[{"role": "user", "content": content}], tools=TOOLS, tool_choice="required")
    line = await line_of(lines)
    assert 0 < line["grammar_s"] <= line["render_s"]
    assert 0 < line["encode_s"] <= line["submit_s"]


async def test_the_metrics_have_the_figures_of_the_line(suite, lines):
    await suite.chat()
    line = await line_of(lines)
    stages = await shown(suite, "perigee_stage_seconds_sum")
    assert {(stage,) for stage in STAGES if f"{stage}_s" in line} <= set(stages)
    for (stage,), value in stages.items():
        assert round(value, 6) == line.get(f"{stage}_s", 0.0), stage
    [total] = (await shown(suite, "perigee_request_duration_seconds_sum")).values()
    assert round(total, 6) == line["total_s"]


async def test_a_request_that_asks_for_no_tokens_is_in_no_histogram(suite):
    await suite.http.post("/tokenize", json={"prompt": "x"})
    await suite.chat(temperature=9)
    assert await shown(suite, "perigee_request_duration_seconds_count") == {(): 0}
    assert not await shown(suite, "perigee_stage_seconds_count")


async def test_errors_are_counted_by_reason(suite):
    await suite.chat(temperature=9)
    await suite.chat(model="other")
    await suite.chat(model="other")
    errors = await shown(suite, "perigee_request_errors_total")
    assert errors == {("INVALID_REQUEST",): 1, ("MODEL_NOT_FOUND",): 2}


async def test_a_caller_who_is_turned_away_is_counted_by_reason_too(tmp_path):
    keys = tmp_path / "keys.json"
    KeyFile(keys).add(KeyRecord("ops", digest(new_key()), ["admin"]))
    async with open_suite(api_keys=str(keys)) as suite:
        assert (await suite.chat()).status_code == 401
        assert dict(suite.gateway._metrics.errors.counts) == {("INVALID_API_KEY",): 1}


async def test_prompt_tokens_are_counted_by_who_had_them(suite):
    suite.decode.cached_tokens = 3
    suite.decode.seconds = {"prefill_cached_tokens": 2}
    usage = (await suite.chat()).json()["usage"]
    assert await shown(suite, "perigee_prompt_tokens_by_source_total") == {
        ("decode_cache",): 3, ("prefill_cache",): 2, ("computed",): usage["prompt_tokens"] - 5,
    }  # fmt: skip


async def test_the_time_for_which_nobody_answered_is_a_stage_too(suite, lines):
    suite.decode.fail_after, suite.decode.step_s = 0, 0.01
    await suite.chat()
    line = await line_of(lines)
    assert line["reason"] in ("WORKER_LOST", "UNAVAILABLE")
    assert line["wait_s"] > 0 or line["submit_s"] > 0
    assert "decode_s" not in line
