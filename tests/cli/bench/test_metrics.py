"""The figures of hand-made timelines."""

from __future__ import annotations

import pytest

from services.cli.bench.metrics import Spread, percentile, summarize, tpot_of
from tests.cli.bench.made import request, run


def test_percentiles_lie_between_the_two_nearest_values():
    values = [1.0, 2.0, 3.0, 4.0, 10.0]
    assert [percentile(values, each) for each in (0, 50, 90, 100)] == [1.0, 3.0, pytest.approx(7.6), 10.0]
    assert percentile([5.0], 99) == 5.0


def test_without_any_time_all_figures_are_zero():
    assert Spread.of([]) == Spread(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_a_token_s_time_leaves_the_first_one_out():
    assert tpot_of(request(ttft=0.2, latency=1.0, tokens=5)) == pytest.approx(0.2)


def test_an_answer_of_one_token_has_no_time_per_token():
    summary = summarize(run([request(tokens=1), request(ttft=0.2, latency=1.0, tokens=5)]))
    assert (summary.completed, summary.tpot.count) == (2, 1)
    assert summary.tpot.p50 == pytest.approx(200.0)
    assert summary.ttft.count == 2


def test_an_answer_without_text_has_no_first_token_and_no_time_per_token():
    summary = summarize(run([request(ttft=None, tokens=3)]))
    assert (summary.completed, summary.ttft.count, summary.tpot.count, summary.e2e.count) == (1, 0, 0, 1)


def test_failed_and_cut_answers_count_in_no_figure_but_that_of_failures():
    whole = request(ttft=0.1, latency=0.5, gaps=[0.1, 0.3], tokens=3, prompt=7)
    refused = request(ttft=None, latency=9.0, tokens=0, error="HTTP status 500")
    cut = request(ttft=5.0, latency=9.0, gaps=[4.0], tokens=0, error="the stream ended")
    summary = summarize(run([whole, refused, cut], seconds=2.0))
    assert (summary.completed, summary.failed) == (1, 2)
    assert (summary.request_rate, summary.input_rate, summary.output_rate, summary.total_rate) == (
        0.5, 3.5, 1.5, 5.0,
    )  # fmt: skip
    assert summary.ttft.most == pytest.approx(100.0)
    assert summary.itl.most == pytest.approx(300.0)
    assert summary.e2e.most == pytest.approx(500.0)


def test_concurrency_is_the_time_of_all_answers_over_that_of_the_run():
    assert summarize(run([request(latency=3.0), request(latency=1.0)], seconds=2.0)).concurrency == 2.0


def test_the_speed_is_reached_by_nine_of_ten_requests():
    fast = [request(latency=1.0, tokens=100)] * 9
    slow = request(latency=1.0, tokens=10)
    # 0.01 s per token, but 0.1 for the slowest: at the 90th percentile a tenth of the way, 0.019.
    assert summarize(run([*fast, slow])).speed == pytest.approx(1 / 0.019)
    assert summarize(run([*fast, slow, *fast])).speed == pytest.approx(100.0)


def test_the_hit_ratio_is_of_the_prompts_whose_cached_tokens_are_counted():
    summary = summarize(run([request(prompt=100, cached_tokens=90), request(prompt=50)]))
    assert summary.hit_ratio == pytest.approx(0.9)
    assert summarize(run([request()])).hit_ratio is None


def test_a_good_request_keeps_to_every_limit():
    requests = [
        request(ttft=0.1, latency=1.0, tokens=10),  # 100 ms a token
        request(ttft=0.3, latency=1.0, tokens=10),  # too late
        request(ttft=0.1, latency=5.0, tokens=10),  # too slow
        request(tokens=0, error="refused"),
    ]
    good = summarize(run(requests, seconds=2.0, slo_ms={"ttft": 200.0, "tpot": 100.0})).goodput
    assert (good.rate, good.attained) == (0.5, 0.25)
    assert good.by_metric == {"ttft": 0.5, "tpot": 0.5}


def test_one_token_keeps_to_any_limit_between_tokens_and_no_text_to_none_of_the_first():
    requests = [request(tokens=1), request(ttft=None)]
    good = summarize(run(requests), slo_ms={"ttft": 500.0, "tpot": 1.0}).goodput
    assert good.by_metric == {"ttft": 0.5, "tpot": 1.0}
    assert good.attained == 0.5


def test_there_is_no_goodput_without_limits():
    assert summarize(run([request()])).goodput is None


def test_a_run_whose_requests_all_failed_has_figures():
    summary = summarize(run([request(error="refused", tokens=0)], slo_ms={"e2e": 1.0}))
    assert (summary.failed, summary.output_rate, summary.speed, summary.goodput.attained) == (
        1,
        0.0,
        0.0,
        0.0,
    )
