"""The command line, against an endpoint that answers from a script."""

from __future__ import annotations

import json

import pytest

from services.cli.bench.records import read_runs
from services.cli.main import main
from tests.cli.bench.fake_openai import full_answer

SMALL = ("--scale", "0.01", "--requests", "4", "--concurrency", "2")


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    monkeypatch.delenv("PERIGEE_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def bench(endpoint, tmp_path, *words, out="runs.jsonl"):
    return main(["bench", "--target", endpoint.url, "--out", str(tmp_path / out), *words])


def test_a_scenario_is_measured_and_its_records_are_kept(endpoint, tmp_path, capsys):
    assert bench(endpoint, tmp_path, "chat-16", *SMALL, "--slo", "ttft=5000", "--label", "fake") == 0
    (run,) = read_runs([tmp_path / "runs.jsonl"])
    began = run.began
    assert (began.label, began.scenario, began.scale, began.model) == ("fake", "chat-16", 0.01, "fake")
    assert (began.input_tokens, began.output_tokens, began.requests, began.concurrency) == (10, 10, 4, 2)
    assert [len(request.gaps_s) + 1 for request in run.requests] == [
        request.output_tokens for request in run.requests
    ]
    measured = [body for _, body, _ in endpoint.requests][1:]  # one warms up
    assert sorted(len(body["prompt"]) for body in measured) == sorted(
        request.prompt_tokens for request in run.requests
    )
    out, err = capsys.readouterr()
    assert out.startswith("chat-16, scale 0.01: 4 requests")
    assert "100.0% good" in out
    assert "chat-16 at scale 0.01" in err


def test_all_scenarios_are_measured_without_naming_any(endpoint, tmp_path, capsys):
    assert bench(endpoint, tmp_path, "--scale", "0.002", "--requests", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["scenario"] for each in found] == [
        "chat-1", "chat-16", "chat-100", "reasoning-1", "reasoning-16", "reasoning-64", "summary-1",
        "summary-16", "summary-64", "agent",
    ]  # fmt: skip
    assert all(each["failed"] == 0 for each in found)
    assert found[-1]["completed"] == 2 * 16


def test_chats_have_the_length_that_the_endpoint_counts(endpoint, tmp_path):
    words = (
        "custom",
        "--input-tokens",
        "60",
        "--output-tokens",
        "3",
        "--range-ratio",
        "1",
        "--requests",
        "2",
    )
    assert bench(endpoint, tmp_path, *words, "--images", "1", "--image-size", "20") == 0
    (run,) = read_runs([tmp_path / "runs.jsonl"])
    assert [request.prompt_tokens for request in run.requests] == [60, 60]
    content = endpoint.requests[-1][1]["messages"][0]["content"]
    assert content[0]["image_url"]["url"].startswith("data:image/png;base64,")


def test_a_failed_request_is_counted_and_is_the_command_s_failure(endpoint, tmp_path, capsys):
    def answer(body):
        if len(endpoint.requests) == 3:
            return [None]
        return full_answer(body)

    endpoint.script = answer
    assert bench(endpoint, tmp_path, "chat-1", "--scale", "0.01", "--requests", "3") == 1
    out = capsys.readouterr().out
    assert "2 whole answers" in out
    assert "1 failed" in out


def test_an_endpoint_that_refuses_is_not_measured(endpoint, tmp_path, capsys):
    endpoint.status, endpoint.script = 401, lambda body: [b"no key"]
    assert bench(endpoint, tmp_path, "chat-1", *SMALL) == 1
    assert "HTTP status 401: no key" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_scenario_that_cannot_begin_ends_the_command_which_says_where_the_records_are(
    endpoint, tmp_path, capsys
):
    endpoint.script = lambda body: full_answer(body) if len(body["prompt"]) < 20 else [None]
    assert bench(endpoint, tmp_path, "chat-1", "summary-1", *SMALL, "--range-ratio", "1") == 1
    assert f"{tmp_path / 'runs.jsonl'} has the records" in capsys.readouterr().err
    (run,) = read_runs([tmp_path / "runs.jsonl"])
    assert (run.began.scenario, len(run.requests)) == ("chat-1", 4)


def test_a_file_takes_further_runs_of_its_own_scale_only(endpoint, tmp_path, capsys):
    assert bench(endpoint, tmp_path, "chat-1", *SMALL) == 0
    assert bench(endpoint, tmp_path, "chat-1", *SMALL, "--label", "again") == 0
    assert len(read_runs([tmp_path / "runs.jsonl"])) == 2
    assert bench(endpoint, tmp_path, "chat-1", "--scale", "0.02") == 2
    assert "has runs of scale 0.01" in capsys.readouterr().err


def test_reports_compare_files_and_refuse_those_of_another_scale(endpoint, tmp_path, capsys):
    for label, scale, out in (("a", "0.01", "a"), ("b", "0.01", "b"), ("c", "0.02", "c")):
        words = ("chat-1", "--requests", "2", "--scale", scale, "--label", label)
        assert bench(endpoint, tmp_path, *words, out=out) == 0
    capsys.readouterr()
    assert main(["bench", "report", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "\n  to a" in capsys.readouterr().out
    assert main(["bench", "report", str(tmp_path / "a"), str(tmp_path / "c")]) == 2
    assert "different scales (0.01, 0.02)" in capsys.readouterr().err


def test_a_report_draws_where_asked(endpoint, tmp_path, capsys):
    bench(endpoint, tmp_path, "chat-1", *SMALL)
    pictures = tmp_path / "pictures"
    assert main(["bench", "report", str(tmp_path / "runs.jsonl"), "--pictures", str(pictures)]) == 0
    assert sorted(path.name for path in pictures.iterdir()) == ["chat-1.png", "summary.png"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "no scenario is called 'nothing'"),
        (["chat-1", "chat-1"], "named twice"),
        (["chat-1", "agent", "--name", "x"], "--name"),
        (["--scale", "0"], "--scale: must be above 0"),
        (["--rate", "-1"], "--rate: must be above 0"),
        (["--timeout-seconds", "0"], "--timeout-seconds: must be above 0"),
        (["--timeout", "0"], "--timeout-seconds"),
        (["--concurrency", "-1"], "--concurrency: must be 0 to"),
        (["--requests", "0"], "--requests: must be 1 to"),
        (["--range-ratio", "2"], "--range-ratio: must be 0 to 1"),
        (["--seed", "-1"], "--seed: must be 0 to"),
        (["--extra", "{"], "--extra: is not JSON"),
        (["--extra", "[]"], "--extra: is no JSON object"),
        (["--slo", "ttft"], "--slo: 'ttft' is not NAME=MS"),
        (["--slo", "itl=5"], "--slo: 'itl=5' is not NAME=MS"),
        (["--target", "x"], "--target: 'x' is neither"),
        (["--ca", "/none"], "--ca /none: No such file"),
        (["--checkpoint", "x"], "--checkpoint: is for --compare"),
        (["--compare", "aggregated", "--target", "http://h"], "leave --target out"),
        (["--compare", "aggregated", "--images", "1"], "leave --images out"),
        (["--compare", "aggregated", "--chunks", "100"], "multiples of 64"),
        (["report"], "name at least one file"),
        (["report", "/none"], "/none: No such file"),
    ],
)
def test_a_wrong_command_line_is_refused_by_name(words, said, capsys):
    assert main(["bench", *words]) == 2
    assert said in capsys.readouterr().err
