"""Which runs may stand beside each other, and how."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.cli.bench.metrics import Summary, summarize
from services.cli.bench.records import AGGREGATED, LOAD, Began, Run
from services.common.errors import ConfigError

Figure = Callable[[Summary], float]


@dataclass(frozen=True)
class Entry:
    """All runs of one label in one scenario."""

    label: str
    runs: tuple[Run, ...]
    summaries: tuple[Summary, ...]

    def median(self, figure: Figure) -> float:
        """Returns the median of a figure over the runs."""
        return statistics.median(map(figure, self.summaries))


@dataclass(frozen=True)
class Group:
    """A scenario with the labels that ran it, in the order of the records."""

    began: Began
    entries: tuple[Entry, ...]

    @property
    def scenario(self) -> str:
        """The scenario's name."""
        return self.began.scenario

    def best_aggregated(self) -> Entry | None:
        """Returns the suite of one pool with the best chunk size: that with the most goodput, without limits
        that with the most output tokens per second. None if no suite of one pool ran.
        """
        pools = [entry for entry in self.entries if entry.label.startswith(AGGREGATED)]
        return max(pools, key=lambda entry: entry.median(_good), default=None)


def _good(summary: Summary) -> float:
    return summary.output_rate if summary.goodput is None else summary.goodput.rate


@dataclass(frozen=True)
class Comparison:
    """All scenarios. `unfinished`: runs that were interrupted, which count nowhere."""

    scale: float
    groups: tuple[Group, ...]
    unfinished: tuple[Run, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order of the records."""
        return tuple(dict.fromkeys(entry.label for group in self.groups for entry in group.entries))


def compare(runs: Sequence[Run], slo_ms: Mapping[str, float] | None = None) -> Comparison:
    """Groups runs by scenario and label. `slo_ms`: in place of the runs' own limits.

    Raises ConfigError if their scales differ, if runs of one scenario differ in anything of their load, if
    they have different limits, or if none is finished.
    """
    whole = [run for run in runs if run.seconds is not None]
    if not whole:
        raise ConfigError("no run was finished: there is nothing to report")
    scales = sorted({run.began.scale for run in runs})
    if len(scales) > 1:
        named = ", ".join(f"{scale:g}" for scale in scales)
        raise ConfigError(
            f"the runs have different scales ({named}): lengths differ, and no figure can be compared"
        )
    by_scenario: dict[str, list[Run]] = {}
    for run in whole:
        by_scenario.setdefault(run.began.scenario, []).append(run)
    groups = tuple(_group(name, those, slo_ms) for name, those in by_scenario.items())
    return Comparison(scales[0], groups, tuple(run for run in runs if run.seconds is None))


def _group(name: str, runs: Sequence[Run], slo_ms: Mapping[str, float] | None) -> Group:
    first = runs[0].began
    for run in runs:
        if run.began.load != first.load:
            raise ConfigError(
                f"{name}: {_difference(first, run.began)}: these runs cannot be compared; give one of them"
                " another --name"
            )
        if slo_ms is None and run.began.slo_ms != first.slo_ms:
            raise ConfigError(f"{name}: the runs have different SLOs; name one with --slo")
    by_label: dict[str, list[Run]] = {}
    for run in runs:
        by_label.setdefault(run.began.label, []).append(run)
    entries = tuple(
        Entry(label, tuple(those), tuple(summarize(run, slo_ms) for run in those))
        for label, those in by_label.items()
    )
    return Group(first, entries)


def _difference(first: Began, other: Began) -> str:
    found = next(name for name in LOAD if getattr(first, name) != getattr(other, name))
    return f"{found} is {getattr(first, found)} and {getattr(other, found)}"
