"""The scenarios of a benchmark."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True)
class Scenario:
    """A load. `input_tokens` and `output_tokens` are the greatest lengths; each request's own are uniform
    from `least_ratio` of them, at least 1 token. `concurrency`: most requests at once, 0 for any number.
    `rate`: requests per second with random gaps between them (a Poisson process), 0: as soon as possible.
    `images`: of each prompt, `image_pixels` wide and high. `rounds`: of each conversation with an agent; then
    `requests` counts conversations, `input_tokens` is the median prompt, and all answers are as long. 0: the
    requests have nothing to do with each other.
    """

    name: str
    input_tokens: int
    output_tokens: int
    requests: int
    concurrency: int = 0
    rate: float = 0.0
    least_ratio: float = 0.0
    images: int = 0
    image_pixels: int = 0
    rounds: int = 0

    def scaled(self, scale: float) -> Scenario:
        """Returns the scenario with `scale` times the lengths, at least 1; the other figures stay."""
        return replace(
            self,
            input_tokens=scaled_length(self.input_tokens, scale),
            output_tokens=scaled_length(self.output_tokens, scale),
        )


def scaled_length(tokens: int, scale: float) -> int:
    """Returns `scale` times a length, rounded, at least 1."""
    return max(1, math.floor(tokens * scale + 0.5))


def _named(*scenarios: Scenario) -> Mapping[str, Scenario]:
    return MappingProxyType({scenario.name: scenario for scenario in scenarios})


AGENT = "agent"
COOKBOOK = _named(
    Scenario("chat-1", 1000, 1000, 10, 1),
    Scenario("chat-16", 1000, 1000, 80, 16),
    Scenario("chat-100", 1000, 1000, 500, 100),
    Scenario("reasoning-1", 1000, 8000, 10, 1),
    Scenario("reasoning-16", 1000, 8000, 80, 16),
    Scenario("reasoning-64", 1000, 8000, 320, 64),
    Scenario("summary-1", 8000, 1000, 10, 1),
    Scenario("summary-16", 8000, 1000, 80, 16),
    Scenario("summary-64", 8000, 1000, 320, 64),
)
"""The nine of SGLang's cookbook for Kimi-K2.5: lengths, numbers of requests and concurrency as there."""
SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {**COOKBOOK, **_named(Scenario(AGENT, 64_000, 400, 16, 4, rounds=16))}
)
"""All that have a name: the nine, and a trace of agents that use tools."""
