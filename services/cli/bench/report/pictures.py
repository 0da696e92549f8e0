"""Draws the figures of runs. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.cli.bench.metrics import Summary, tpot_of
from services.cli.bench.records import Request, Run
from services.cli.bench.report.comparison import Comparison, Figure, Group
from services.cli.bench.report.table import describe_load
from services.common.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

_DPI = 110
_BARS: tuple[tuple[str, Figure, Figure | None, bool], ...] = (
    ("TTFT, ms (bar: median, line: to p99)", lambda s: s.ttft.p50, lambda s: s.ttft.p99, True),
    ("TPOT, ms (bar: median, line: to p99)", lambda s: s.tpot.p50, lambda s: s.tpot.p99, True),
    ("E2E, ms (bar: median, line: to p99)", lambda s: s.e2e.p50, lambda s: s.e2e.p99, True),
    ("output tokens/s", lambda s: s.output_rate, None, False),
    ("tokens/s that 90 % of requests reach", lambda s: s.speed, None, False),
)


def draw(comparison: Comparison, directory: Path) -> list[Path]:
    """Writes summary.png and one picture per scenario; returns their paths. The scale is part of each title.

    Raises ConfigError if matplotlib is missing or the directory cannot be written.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ConfigError("matplotlib is missing: pip install 'perigee[bench]'") from error
    matplotlib.use("Agg")
    colors = {label: f"C{index % 10}" for index, label in enumerate(comparison.labels)}
    pictures = {"summary": _summary(comparison, colors)}
    pictures |= {group.scenario: _scenario(group, colors) for group in comparison.groups}
    stamp = {"Title": f"perigee bench, scale {comparison.scale:g}"}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return [_save(canvas, directory / f"{name}.png", stamp) for name, canvas in pictures.items()]
    except OSError as error:
        raise ConfigError(f"--pictures {directory}: {error.strerror}") from error


def _save(canvas: Canvas, path: Path, stamp: Mapping[str, str]) -> Path:
    canvas.savefig(path, dpi=_DPI, metadata=dict(stamp))
    return path


def _canvas(rows: int, columns: int, title: str) -> tuple[Canvas, list[Axes]]:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(6.0 * columns, 3.6 * rows), layout="constrained")
    canvas.suptitle(title, fontsize=12)
    return canvas, [canvas.add_subplot(rows, columns, place + 1) for place in range(rows * columns)]


def _summary(comparison: Comparison, colors: Mapping[str, str]) -> Canvas:
    models = sorted({run.began.model for group in comparison.groups for run in group.entries[0].runs})
    title = f"{', '.join(models)}: all lengths at scale {comparison.scale:g}"
    canvas, panels = _canvas(2, 3, title)
    for panel, (name, figure, upper, times) in zip(panels, [*_BARS, _sixth(comparison)], strict=True):
        _bars(panel, comparison, colors, figure, upper)
        panel.set_title(name, fontsize=10)
        if times and any(entry.median(figure) for group in comparison.groups for entry in group.entries):
            panel.set_yscale("log")
    handles, names = panels[0].get_legend_handles_labels()
    canvas.legend(handles, names, loc="outside lower center", ncols=4, frameon=False)
    return canvas


def _sixth(comparison: Comparison) -> tuple[str, Figure, None, bool]:
    """Returns what the last panel shows: goodput where there are limits, else what was cached."""
    limits = [group.began.slo_ms for group in comparison.groups for entry in group.entries[:1]]
    if any(entry.summaries[0].goodput for group in comparison.groups for entry in group.entries):
        slo = ", ".join(f"{name} {limit:g} ms" for name, limit in limits[0].items())
        title = f"part of the requests within the SLO{f' ({slo})' if slo else ''}"
        return title, lambda s: s.goodput.attained if s.goodput else 0.0, None, False
    return "part of the prompt tokens that was cached", lambda s: s.hit_ratio or 0.0, None, False


def _bars(
    panel: Axes, comparison: Comparison, colors: Mapping[str, str], figure: Figure, upper: Figure | None
) -> None:
    names = [group.scenario for group in comparison.groups]
    width = 0.8 / len(comparison.labels)
    for number, label in enumerate(comparison.labels):
        places, heights, lines = [], [], []
        for place, group in enumerate(comparison.groups):
            for entry in group.entries:
                if entry.label == label:
                    height = entry.median(figure)
                    places.append(place + (number + 0.5) * width - 0.4)
                    heights.append(height)
                    lines.append(max(entry.median(upper) - height, 0.0) if upper else 0.0)
        error = [[0.0] * len(lines), lines] if upper else None
        panel.bar(places, heights, width * 0.9, yerr=error, color=colors[label], label=label, ecolor="0.3")
    panel.set_xticks(range(len(names)), names, rotation=35, ha="right", fontsize=8)
    panel.grid(axis="y", alpha=0.3)


def _scenario(group: Group, colors: Mapping[str, str]) -> Canvas:
    canvas, panels = _canvas(2, 2, describe_load(group.began))
    curves: tuple[tuple[str, Callable[[Request], float | None]], ...] = (
        ("TTFT, ms", lambda request: request.ttft_s),
        ("TPOT, ms", tpot_of),
        ("E2E, ms", lambda request: request.latency_s),
    )
    for panel, (name, time_of) in zip(panels, curves, strict=False):
        for entry in group.entries:
            times = _times(entry.runs, time_of)
            parts = [(index + 1) / len(times) for index in range(len(times))]
            panel.step(times, parts, where="post", color=colors[entry.label], label=entry.label)
        panel.set_xlabel(name)
        panel.set_ylabel("part of the requests")
        panel.set_ylim(0, 1.02)
        panel.grid(alpha=0.3)
    panels[0].legend(frameon=False, loc="lower right")
    _rates(panels[3], group, colors)
    return canvas


def _times(runs: Sequence[Run], time_of: Callable[[Request], float | None]) -> list[float]:
    times = (time_of(request) for run in runs for request in run.requests if not request.error)
    return sorted(1e3 * each for each in times if each is not None)


def _rates(panel: Any, group: Group, colors: Mapping[str, str]) -> None:
    """Draws the pieces of text that arrived in each fiftieth of each label's last run, per second."""
    for entry in group.entries:
        run, summary = entry.runs[-1], entry.summaries[-1]
        moments, rates = _pieces(run, summary)
        panel.plot(moments, rates, color=colors[entry.label], label=entry.label)
    panel.set_xlabel("seconds since the run began")
    panel.set_ylabel("pieces of text per second")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)


def _pieces(run: Run, summary: Summary, bins: int = 50) -> tuple[list[float], list[float]]:
    width = max(summary.seconds, 1e-6) / bins
    counts = [0] * bins
    for request in run.requests:
        if request.ttft_s is None:
            continue
        at = request.start_s + request.ttft_s
        for gap in (0.0, *request.gaps_s):
            at += gap
            counts[min(int(at / width), bins - 1)] += 1
    return [(index + 0.5) * width for index in range(bins)], [count / width for count in counts]
