"""Rules beyond the model's limits: Moonshot's own API fixes the sampling of chats."""

from __future__ import annotations

from typing import Literal, TypeAlias

from services.common.errors import UnsupportedValue
from services.families.kimi.sampling_defaults import SamplingDefaults
from services.gateway.sampling import FieldName, SamplingOptions

Profile: TypeAlias = Literal["none", "moonshot"]

# What a 32-bit float, as gRPC carries it, may differ by.
_ROUNDING = 1e-6


def check_moonshot(options: SamplingOptions, fixed: SamplingDefaults, name: FieldName) -> None:
    """Raises UnsupportedValue naming the first control that is neither absent nor what Moonshot fixes it to.

    `fixed`: the defaults of the chat's mode.
    """
    repetition = 1.0 if options.repetition_penalty is None else options.repetition_penalty
    for control, given, wanted in (
        ("temperature", options.temperature, fixed.temperature),
        ("top_p", options.top_p, fixed.top_p),
        ("presence_penalty", options.presence_penalty, 0.0),
        ("frequency_penalty", options.frequency_penalty, 0.0),
        ("repetition_penalty", repetition, 1.0),
        ("n", options.n, 1),
    ):
        if given is not None and abs(given - wanted) > _ROUNDING:
            raise UnsupportedValue(
                f"{name(control)} is {given:g}; under the profile moonshot it is always {wanted:g}",
                name(control),
            )
