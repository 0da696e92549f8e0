"""The figures of runs as text, and as JSON for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from services.cli.bench.metrics import Summary
from services.cli.bench.records import Began
from services.cli.bench.report.comparison import Comparison, Entry, Figure, Group

_COLUMNS: tuple[tuple[str, Figure, str], ...] = (
    ("req/s", lambda each: each.request_rate, ".2f"),
    ("in tok/s", lambda each: each.input_rate, ".0f"),
    ("out tok/s", lambda each: each.output_rate, ".0f"),
    ("TTFT p50", lambda each: each.ttft.p50, ".1f"),
    ("p99", lambda each: each.ttft.p99, ".1f"),
    ("TPOT p50", lambda each: each.tpot.p50, ".2f"),
    ("p99", lambda each: each.tpot.p99, ".2f"),
    ("ITL p50", lambda each: each.itl.p50, ".2f"),
    ("p99", lambda each: each.itl.p99, ".1f"),
    ("E2E p50", lambda each: each.e2e.p50, ".0f"),
    ("p99", lambda each: each.e2e.p99, ".0f"),
    ("tok/s P90", lambda each: each.speed, ".1f"),
)
_AGAINST_BEST: tuple[tuple[str, Figure], ...] = (
    ("output tok/s", lambda each: each.output_rate),
    ("TTFT p50", lambda each: each.ttft.p50),
    ("p99", lambda each: each.ttft.p99),
    ("TPOT p50", lambda each: each.tpot.p50),
    ("ITL p99", lambda each: each.itl.p99),
    ("goodput", lambda each: each.goodput.rate if each.goodput else 0.0),
)
_WIDTH = 10
_LONGEST = 40  # of a label
NOTE = (
    "Times in ms. Medians over runs of the same label. tok/s P90: output tokens per second of its whole time"
    " that 90 % of the requests reach."
)


def table(comparison: Comparison) -> list[str]:
    """Returns the lines of the report."""
    lines = [line for group in comparison.groups for line in (*_scenario(group), "")]
    for run in comparison.unfinished:
        count = len(run.requests)
        lines.append(
            f"{run.began.label}: {run.began.scenario} was interrupted after {count} requests: not counted"
        )
    return [*lines, NOTE]


def describe_load(began: Began) -> str:
    """Returns one line about a scenario's load, with its scale."""
    if began.rounds:
        what = f"{began.requests} agents of {began.rounds} rounds, median prompt {began.input_tokens} tokens"
    else:
        what = f"{began.requests} requests, prompts to {began.input_tokens}, answers to {began.output_tokens}"
    if began.least_ratio:
        what += f" tokens (at least {began.least_ratio:g} of that)"
    elif not began.rounds:
        what += " tokens"
    images = f", {began.images} images each" if began.images else ""
    pace = f", {began.rate:g} a second" if began.rate else ""
    most = f", {began.concurrency} at once" if began.concurrency else ""
    return f"{began.scenario}, scale {began.scale:g}: {what}{images}{pace}{most}"


def _scenario(group: Group) -> list[str]:
    first, *others = group.entries
    ratio_name = f"  to {first.label}"
    width = (
        min(max(len(text) for text in (ratio_name, *(entry.label for entry in group.entries))), _LONGEST) + 1
    )
    lines = [
        describe_load(group.began),
        " " * width + "".join(f"{name:>{_WIDTH}}" for name, _, _ in _COLUMNS),
    ]
    for entry in group.entries:
        figures = "".join(f"{entry.median(figure):>{_WIDTH}{form}}" for _, figure, form in _COLUMNS)
        lines.append(f"{_cut(entry.label):{width}}{figures}")
        if entry in others:
            ratios = "".join(f"{_ratio(entry, first, figure):>{_WIDTH}}" for _, figure, _ in _COLUMNS)
            lines.append(f"{_cut(ratio_name):{width}}{ratios}")
    lines += [f"{_cut(entry.label):{width}}{_counts(entry)}" for entry in group.entries]
    best = group.best_aggregated()
    if best is not None and best is not first:
        ratios = ", ".join(f"{name} {_ratio(first, best, figure)}" for name, figure in _AGAINST_BEST)
        lines.append(f"{first.label} to the best chunk size, {best.label}: {ratios}")
    return lines


def _counts(entry: Entry) -> str:
    last = entry.summaries[-1]
    parts = [f"{last.completed} whole answers in {last.seconds:.1f} s, {last.failed} failed"]
    if len(entry.summaries) > 1:
        parts.append(f"the last of {len(entry.summaries)} runs")
    if last.hit_ratio is not None:
        parts.append(f"{last.hit_ratio:.1%} of prompt tokens cached")
    if last.goodput is not None:
        each = ", ".join(f"{name} {part:.1%}" for name, part in last.goodput.by_metric.items())
        parts.append(f"goodput {last.goodput.rate:.2f} req/s, {last.goodput.attained:.1%} good ({each})")
    errors = [request.error for request in entry.runs[-1].requests if request.error]
    if errors:
        parts.append(f"first error: {errors[0][:200]}")
    return "; ".join(parts)


def _ratio(entry: Entry, first: Entry, figure: Figure) -> str:
    base = first.median(figure)
    return f"{entry.median(figure) / base:.2f}" if base else "-"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def as_json(comparison: Comparison) -> list[dict[str, Any]]:
    """Returns one object per run, with its scale and all figures."""
    return [
        {"scenario": group.scenario, "label": entry.label, "scale": comparison.scale, **_figures(summary)}
        for group in comparison.groups
        for entry in group.entries
        for summary in entry.summaries
    ]


def _figures(summary: Summary) -> dict[str, Any]:
    return asdict(summary)
