"""The samples that a collector shows."""

from __future__ import annotations

from prometheus_client.registry import Collector


def samples(collector: Collector, name: str) -> dict[tuple[str, ...], float]:
    """The samples of this name, by the values of their labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in collector.collect()
        for sample in family.samples
        if sample.name == name
    }


def stage_seconds(collector: Collector) -> dict[str, float]:
    """The seconds of all requests in each stage that some had."""
    return {stage: value for (stage,), value in samples(collector, "perigee_stage_seconds_sum").items()}
