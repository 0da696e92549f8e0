"""Records are all that is kept of a benchmark."""

from __future__ import annotations

import io
import json

import msgspec
import pytest

from services.cli.bench.records import Ended, RecordWriter, Run, read_runs, request_record
from services.cli.bench.targets.timeline import Timeline
from services.common.errors import ConfigError
from tests.cli.bench.made import began, request


def written(path, *records):
    with path.open("a") as out:
        writer = RecordWriter(out)
        for record in records:
            writer.write(record)
    return path


def test_what_is_written_is_read_again(tmp_path):
    first, second = began(slo_ms={"ttft": 100.0}), began("chat-1-b", label="theirs")
    ask = request(gaps=[0.25, 0.5], cached_tokens=7, finish="length")
    failed = request(run="chat-1-b", ttft=None, error="no answer", tokens=0)
    file = written(tmp_path / "a.jsonl", first, ask, Ended("chat-1-a", 1.0, 3.5), second, failed)
    assert read_runs([file]) == [Run(first, [ask], 3.5), Run(second, [failed], None)]


def test_each_line_is_an_object_that_names_its_run_and_scale(tmp_path):
    out = io.StringIO()
    writer = RecordWriter(out)
    for record in (began(scale=0.05), request(scale=0.05), Ended("chat-1-a", 0.05, 1.0)):
        writer.write(record)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["kind"] for line in lines] == ["run", "request", "end"]
    assert {(line["run"], line["scale"]) for line in lines} == {("chat-1-a", 0.05)}


def test_runs_that_were_written_at_once_are_told_apart(tmp_path):
    records = [began(), began("other"), request(run="other"), request(), Ended("other", 1.0, 1.0)]
    one, other = read_runs([written(tmp_path / "a.jsonl", *records)])
    assert (len(one.requests), one.seconds) == (1, None)
    assert (len(other.requests), other.seconds) == (1, 1.0)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["{"], "line 1: is no record"),
        (['{"kind": "else"}'], "line 1: is no record"),
        ([request()], "line 1: no run before this line is called chat-1-a"),
        ([began(), began()], "line 2: a second run is called chat-1-a"),
        ([began(), request(scale=0.5)], "line 2: scale 0.5 in a run of scale 1"),
        ([msgspec.structs.replace(began(), format=2)], "format 2; this version reads format 1"),
        ([], "holds no run"),
    ],
)
def test_a_file_that_is_not_what_a_benchmark_wrote_is_refused(tmp_path, lines, said):
    file = tmp_path / "a.jsonl"
    text = [line if isinstance(line, str) else msgspec.json.encode(line).decode() for line in lines]
    file.write_text("\n".join(text))
    with pytest.raises(ConfigError, match=said) as refused:
        read_runs([file])
    assert str(file) in refused.value.message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.jsonl: No such file"):
        read_runs([tmp_path / "none.jsonl"])


def test_a_record_has_the_times_between_the_moments_of_a_request():
    timeline = Timeline(
        start=103.0, texts=[103.5, 103.75, 104.75], end=105.0, output_tokens=4, prompt_tokens=9
    )
    timeline.answer.finish = "length"
    record = request_record(began(), timeline, 100.0, 5, 2, (50, 60))
    assert (record.start_s, record.ttft_s, record.latency_s, record.gaps_s) == (3.0, 0.5, 2.0, [0.25, 1.0])
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (9, 4, None)
    assert (record.session, record.turn, record.finish, record.error) == (5, 2, "length", "")


def test_an_endpoint_that_counts_no_tokens_is_taken_to_have_done_what_was_asked():
    record = request_record(began(), Timeline(start=0.0, texts=[1.0], end=1.0), 0.0, 0, 0, (50, 60))
    assert (record.prompt_tokens, record.output_tokens) == (50, 60)


def test_a_failed_request_has_no_output():
    timeline = Timeline(start=0.0, texts=[1.0], end=2.0, output_tokens=3, error="cut")
    record = request_record(began(), timeline, 0.0, 0, 0, (50, 60))
    assert (record.output_tokens, record.error, record.ttft_s) == (0, "cut", 1.0)
