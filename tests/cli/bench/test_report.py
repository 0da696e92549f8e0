"""What may be compared, the table, and the pictures."""

from __future__ import annotations

import pytest
from PIL import Image

from services.cli.bench.report.comparison import compare
from services.cli.bench.report.pictures import draw
from services.cli.bench.report.table import as_json, table
from services.common.errors import ConfigError
from tests.cli.bench.made import request, run


def pair(**second):
    return [
        run([request(ttft=0.1)], run="a"),
        run([request(ttft=0.3)], run="b", **({"label": "theirs"} | second)),
    ]


def test_runs_of_different_scales_are_not_compared():
    with pytest.raises(ConfigError, match=r"different scales \(0.05, 1\)"):
        compare(pair(scale=0.05))


def test_not_even_where_scenario_and_label_differ_or_one_was_interrupted():
    with pytest.raises(ConfigError, match="different scales"):
        compare(pair(scale=0.05, scenario="agent"))
    interrupted = run(run="b", scale=0.05, seconds=None)
    with pytest.raises(ConfigError, match="different scales"):
        compare([pair()[0], interrupted])


@pytest.mark.parametrize(
    "other",
    [
        {"input_tokens": 5}, {"output_tokens": 5}, {"requests": 5}, {"concurrency": 5}, {"rate": 5.0},
        {"least_ratio": 1.0}, {"images": 1}, {"rounds": 5}, {"seed": 5},
    ],
)  # fmt: skip
def test_runs_of_one_scenario_with_different_loads_are_not_compared(other):
    (name,) = other
    with pytest.raises(ConfigError, match=f"chat-1: {name} is"):
        compare(pair(**other))


def test_runs_with_different_limits_are_compared_only_under_given_ones():
    runs = pair(slo_ms={"ttft": 200.0})
    with pytest.raises(ConfigError, match="--slo"):
        compare(runs)
    ours, theirs = compare(runs, {"ttft": 200.0}).groups[0].entries
    assert (ours.summaries[0].goodput.attained, theirs.summaries[0].goodput.attained) == (1.0, 0.0)


def test_without_a_finished_run_there_is_nothing_to_report():
    with pytest.raises(ConfigError, match="nothing to report"):
        compare([run(seconds=None)])


def test_several_runs_of_a_label_count_by_their_median():
    runs = [run([request(ttft=ttft)], run=str(ttft)) for ttft in (0.1, 0.9, 0.2)]
    (entry,) = compare(runs).groups[0].entries
    assert entry.median(lambda summary: summary.ttft.p50) == pytest.approx(200.0)


def test_the_table_shows_each_label_and_its_ratio_to_the_first():
    lines = table(compare(pair()))
    assert lines[0].startswith("chat-1, scale 1: 10 requests")
    end = lines[1].index("TTFT p50") + len("TTFT p50")
    assert [line[:end].split()[-1] for line in lines[2:5]] == ["100.0", "300.0", "3.00"]
    assert [line.split("  ")[0] for line in lines[2:4]] == ["ours", "theirs"]
    assert lines[4].startswith("  to ours")


def test_the_table_tells_failures_hits_goodput_and_interrupted_runs():
    requests = [request(cached_tokens=10), request(error="HTTP status 500", tokens=0)]
    runs = [run(requests, slo_ms={"ttft": 500.0}), run([request()], run="c", label="cut", seconds=None)]
    text = "\n".join(table(compare(runs)))
    assert "1 whole answers in 2.0 s, 1 failed" in text
    assert "50.0% of prompt tokens cached" in text
    assert "goodput 0.50 req/s, 50.0% good (ttft 50.0%)" in text
    assert "first error: HTTP status 500" in text
    assert "cut: chat-1 was interrupted after 1 requests: not counted" in text


@pytest.mark.parametrize(("limits", "best"), [({}, "aggregated/128"), ({"ttft": 200.0}, "aggregated/256")])
def test_separate_pools_are_set_against_the_best_chunk_size(limits, best):
    runs = [
        run([request(ttft=0.1, tokens=50)], run="a", label="disaggregated", slo_ms=limits),
        run([request(ttft=0.3, tokens=100)], run="b", label="aggregated/128", slo_ms=limits),
        run([request(ttft=0.1, tokens=20)], run="c", label="aggregated/256", slo_ms=limits),
    ]
    (line,) = [line for line in table(compare(runs)) if "best chunk size" in line]
    assert f"disaggregated to the best chunk size, {best}: " in line
    assert f"output tok/s {'2.50' if limits else '0.50'}" in line


def test_programs_get_every_figure_with_its_scale():
    first, second = as_json(compare(pair()))
    assert (first["scenario"], first["label"], first["scale"]) == ("chat-1", "ours", 1.0)
    assert second["ttft"]["p50"] == pytest.approx(300.0)


def test_pictures_are_drawn_of_all_scenarios_and_carry_the_scale(tmp_path):
    answers = [
        request(start, ttft=0.1 + start / 50, latency=2 + start, gaps=[0.1] * 9, cached_tokens=5)
        for start in range(5)
    ]
    runs = [
        run(
            answers,
            run=f"{label}{scenario}",
            label=label,
            scenario=scenario,
            scale=0.05,
            slo_ms={"ttft": 150.0},
        )
        for label in ("ours", "theirs")
        for scenario in ("chat-1", "agent")
    ]
    paths = draw(compare(runs), tmp_path / "pictures")
    assert [path.name for path in paths] == ["summary.png", "chat-1.png", "agent.png"]
    for path in paths:
        image = Image.open(path)
        image.load()
        assert image.width > 800
        assert "scale 0.05" in image.text["Title"]
        assert len(image.convert("RGB").getcolors(1 << 20)) > 50


def test_a_run_without_any_whole_answer_is_drawn_too(tmp_path):
    assert draw(compare([run([request(ttft=None, tokens=0, error="refused")])]), tmp_path)


def test_a_place_for_pictures_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--pictures"):
        draw(compare([run([request()])]), tmp_path / "file")
