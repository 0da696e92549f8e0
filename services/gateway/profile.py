"""Rules beyond the model's limits: Moonshot's own API fixes the sampling of chats."""

from __future__ import annotations

from typing import Literal, TypeAlias

from perigee.v1 import sampling_pb2
from services.common.errors import UnsupportedValue
from services.common.sampling.controls import BY_NAME
from services.common.sampling.params import FieldName
from services.families.sampling_defaults import SamplingDefaults

Profile: TypeAlias = Literal["none", "moonshot"]

# What a 32-bit float, as gRPC carries it, may differ by.
_ROUNDING = 1e-6


def check_moonshot(params: sampling_pb2.SamplingParams, fixed: SamplingDefaults, name: FieldName) -> None:
    """Raises UnsupportedValue naming the first control that is neither absent nor what Moonshot fixes it to.

    `fixed`: the defaults of the chat's mode.
    """
    for control, wanted in (
        ("temperature", fixed.temperature),
        ("top_p", fixed.top_p),
        ("presence_penalty", 0.0),
        ("frequency_penalty", 0.0),
        ("repetition_penalty", 1.0),
        ("n", 1),
    ):
        given = BY_NAME[control].given(params)
        if given is not None and abs(given - wanted) > _ROUNDING:
            raise UnsupportedValue(
                f"{name(control)} is {given:g}; under the profile moonshot it is always {wanted:g}",
                name(control),
            )
