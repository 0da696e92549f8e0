"""Rules of Moonshot's own API beyond the model's limits: what it fixes, and what it insists on."""

from __future__ import annotations

from collections.abc import Set
from typing import Literal, TypeAlias

from perigee.v1 import sampling_pb2
from services.common.errors import InvalidRequest, UnsupportedValue
from services.common.sampling.controls import BY_NAME
from services.common.sampling.params import FieldName
from services.families.conversation import Conversation
from services.families.model_profile import HostedRules
from services.families.sampling_defaults import SamplingDefaults
from services.gateway.constraint.output_format import OutputFormat

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


def check_past_reasoning(conversation: Conversation, unreasoned: Set[int], rules: HostedRules) -> None:
    """Raises InvalidRequest naming the first message that has calls but lacks the reasoning it needs.

    `unreasoned`: indices of the messages with calls for which none was given. Those of the open tool round
    need it, which stands behind the last answer without calls; under some rules all do. With thinking off
    nothing is wrong.
    """
    if not conversation.thinking:
        return
    answered = -1
    if not rules.wants_all_reasoning:
        for index, message in enumerate(conversation.messages):
            if message.role == "assistant" and not message.tool_calls:
                answered = index
    missing = min((index for index in unreasoned if index > answered), default=None)
    if missing is not None:
        param = f"messages[{missing}].reasoning_content"
        raise InvalidRequest(
            f"{param} is missing; under the profile moonshot a message with calls needs it while thinking",
            param,
        )


def check_results(conversation: Conversation) -> None:
    """Raises InvalidRequest naming the first result whose id is that of no call before it."""
    called: set[str] = set()
    for index, message in enumerate(conversation.messages):
        if message.role == "tool" and message.tool_call_id not in called:
            param = f"messages[{index}].tool_call_id"
            raise InvalidRequest(f"tool_call_id {message.tool_call_id[:100]!r} is not found", param)
        called.update(call.id for call in message.tool_calls)


def check_forced_calls(conversation: Conversation, output: OutputFormat, rules: HostedRules) -> None:
    """Raises UnsupportedValue for a call that is demanded while the model thinks, unless that is allowed."""
    if conversation.thinking and output.must_call and not rules.forces_calls:
        raise UnsupportedValue(
            f"{output.choice_param}: under the profile moonshot it is auto or none while the model thinks",
            output.choice_param,
        )
