"""`perigee bench` against the suite."""

from __future__ import annotations

import json
import os

import pytest

from services.cli.bench.records import read_runs
from services.cli.main import main
from tests.support.stack import Stack


def measured(suite: Stack, tmp_path, capsys, *words, grpc=False):
    """The figures of each scenario, and the runs in the file."""
    address = f"grpc://127.0.0.1:{suite.ports['gateway']}" if grpc else suite.base_url
    out = tmp_path / "runs.jsonl"
    assert main(["bench", *words, "--target", address, "--out", str(out), "--json"]) == 0
    return json.loads(capsys.readouterr().out), read_runs([out])


@pytest.mark.parametrize("grpc", [False, True], ids=["http", "grpc"])
def test_every_token_of_a_scenario_is_received_and_timed(suite, tmp_path, capsys, grpc):
    words = ("chat-16", "--scale", "0.03", "--requests", "20")
    (found,), (run,) = measured(suite, tmp_path, capsys, *words, grpc=grpc)
    assert (found["completed"], found["failed"]) == (20, 0)
    assert {request.finish for request in run.requests} == {"length"}
    assert sum(request.prompt_tokens for request in run.requests) == pytest.approx(
        found["input_rate"] * found["seconds"]
    )
    for request in run.requests:
        assert 0 < request.ttft_s <= request.latency_s
        assert len(request.gaps_s) < request.output_tokens <= 30


@pytest.mark.parametrize("grpc", [False, True], ids=["http", "grpc"])
def test_agents_find_what_was_said_before_in_the_cache(suite, tmp_path, capsys, grpc):
    words = ("agent", "--scale", "0.01", "--requests", "2", "--concurrency", "2")
    (found,), (run,) = measured(suite, tmp_path, capsys, *words, grpc=grpc)
    assert (found["completed"], found["failed"]) == (32, 0)
    lengths = [request.prompt_tokens for request in run.requests if request.session == 0]
    assert lengths == sorted(lengths)
    assert 0.7 < found["hit_ratio"] < 0.95


def test_images_are_part_of_prompts(suite, tmp_path, capsys):
    words = ("chat-1", "--scale", "0.03", "--requests", "2", "--images", "1", "--image-size", "56")
    (found,), _ = measured(suite, tmp_path, capsys, *words)
    assert (found["completed"], found["failed"]) == (2, 0)


def test_separate_pools_are_compared_with_one_pool_of_as_many_workers(nano_dir, tmp_path, capsys):
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("two workers need a core each")
    out = tmp_path / "runs.jsonl"
    words = ("chat-16", "--scale", "0.01", "--requests", "4", "--kv-pages", "128", "--chunks", "64")
    compared = ("--compare", "aggregated", "--checkpoint", str(nano_dir), "--out", str(out))
    assert main(["bench", *words, *compared]) == 0
    assert [run.began.label for run in read_runs([out])] == ["disaggregated", "aggregated/64"]
    assert all(not request.error for run in read_runs([out]) for request in run.requests)
    assert "disaggregated to the best chunk size, aggregated/64" in capsys.readouterr().out
