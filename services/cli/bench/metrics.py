"""The figures of a run, computed from its records as `sglang.bench_serving` computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.cli.bench.records import Request, Run

SLO_METRICS = ("ttft", "tpot", "e2e")
"""What an SLO may limit, in milliseconds."""


@dataclass(frozen=True)
class Spread:
    """Mean, percentiles and maximum of some times, in milliseconds; all 0 without any."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Computes the figures of times in seconds."""
        if not seconds:
            return cls(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        times = sorted(1e3 * each for each in seconds)
        mean = sum(times) / len(times)
        p50, p90, p95, p99 = (percentile(times, percent) for percent in (50, 90, 95, 99))
        return cls(len(times), mean, p50, p90, p95, p99, times[-1])


def percentile(ascending: Sequence[float], percent: float) -> float:
    """Returns a percentile of at least one value, linear between the two nearest ones."""
    place = (len(ascending) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (place - below)


@dataclass(frozen=True)
class Goodput:
    """`rate`: requests per second that met every limit; `attained`: their part of all requests, failed ones
    included; `by_metric`: the part that met each limit.
    """

    rate: float
    attained: float
    by_metric: Mapping[str, float]


@dataclass(frozen=True)
class Summary:
    """The figures of a run. Rates are per second of the whole run. `ttft`, `itl`, `e2e`: of whole answers;
    `tpot`: of those with at least two tokens. `concurrency`: requests in progress, on average. `speed`: the
    output tokens per second, all of its time included, that 90 % of the requests reach or exceed.
    `hit_ratio`: the part of all prompt tokens that was cached, None where no endpoint counts them.
    """

    completed: int
    failed: int
    seconds: float
    request_rate: float
    input_rate: float
    output_rate: float
    total_rate: float
    concurrency: float
    ttft: Spread
    tpot: Spread
    itl: Spread
    e2e: Spread
    speed: float
    hit_ratio: float | None
    goodput: Goodput | None


def summarize(run: Run, slo_ms: Mapping[str, float] | None = None) -> Summary:
    """Computes the figures of a run that was not interrupted. `slo_ms`: in place of the run's own limits."""
    assert run.seconds is not None
    seconds = max(run.seconds, 1e-9)
    whole = [request for request in run.requests if not request.error]
    inputs = sum(request.prompt_tokens for request in whole)
    outputs = sum(request.output_tokens for request in whole)
    limits = run.began.slo_ms if slo_ms is None else slo_ms
    return Summary(
        completed=len(whole),
        failed=len(run.requests) - len(whole),
        seconds=run.seconds,
        request_rate=len(whole) / seconds,
        input_rate=inputs / seconds,
        output_rate=outputs / seconds,
        total_rate=(inputs + outputs) / seconds,
        concurrency=sum(request.latency_s for request in whole) / seconds,
        ttft=Spread.of([request.ttft_s for request in whole if request.ttft_s is not None]),
        tpot=Spread.of([each for each in map(tpot_of, whole) if each is not None]),
        itl=Spread.of([gap for request in whole for gap in request.gaps_s]),
        e2e=Spread.of([request.latency_s for request in whole]),
        speed=_speed(whole),
        hit_ratio=_hit_ratio(whole),
        goodput=_goodput(run.requests, limits, seconds) if limits else None,
    )


def tpot_of(request: Request) -> float | None:
    """Returns the seconds per token behind the first one; None with fewer than two tokens or without text."""
    if request.ttft_s is None or request.output_tokens < 2:
        return None
    return (request.latency_s - request.ttft_s) / (request.output_tokens - 1)


def _speed(whole: Sequence[Request]) -> float:
    per_token = sorted(each.latency_s / each.output_tokens for each in whole if each.output_tokens)
    slow = percentile(per_token, 90) if per_token else 0.0
    return 1 / slow if slow else 0.0


def _hit_ratio(whole: Sequence[Request]) -> float | None:
    counted = [each for each in whole if each.cached_tokens is not None]
    prompts = sum(each.prompt_tokens for each in counted)
    return sum(each.cached_tokens or 0 for each in counted) / prompts if prompts else None


def _goodput(requests: Sequence[Request], limits: Mapping[str, float], seconds: float) -> Goodput:
    met = [_met(request, limits) for request in requests if not request.error]
    good = sum(len(names) == len(limits) for names in met)
    sent = max(len(requests), 1)
    by_metric = {name: sum(name in names for names in met) / sent for name in limits}
    return Goodput(good / seconds, good / sent, by_metric)


def _met(request: Request, limits: Mapping[str, float]) -> set[str]:
    """Returns the limits that a request met. An answer of one token has waited for no second one; one without
    text has met no limit of its first.
    """
    first = float("inf") if request.ttft_s is None else request.ttft_s
    seconds = {"ttft": first, "tpot": tpot_of(request) or 0.0, "e2e": request.latency_s}
    return {name for name, limit in limits.items() if 1e3 * seconds[name] <= limit}
