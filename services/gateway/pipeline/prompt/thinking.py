"""Whether the model reasons, and which past reasoning it sees: a caller's switches under a model profile."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.errors import UnsupportedValue
from services.families.model_profile import ModelProfile


@dataclass(frozen=True)
class Switch:
    """A switch that the caller has set, and the field it came in."""

    on: bool
    param: str


@dataclass(frozen=True)
class ThinkingMode:
    """The fields of Conversation with these names."""

    thinking: bool
    preserve_thinking: bool


def thinking_mode(profile: ModelProfile, thinking: Switch | None, preserve: Switch | None) -> ThinkingMode:
    """Returns what a chat asks for; None: the caller leaves it to the profile.

    Raises UnsupportedValue naming the field whose value the model does not offer.
    """
    thinks = thinking is None or thinking.on
    if thinking is not None and not thinks and profile.always_thinks:
        raise UnsupportedValue(_always_thinks(thinking.param, profile), thinking.param)
    return ThinkingMode(thinks, _preserves(profile, thinks, preserve))


def _preserves(profile: ModelProfile, thinks: bool, preserve: Switch | None) -> bool:
    always = profile.preserving == "always"
    if preserve is None or preserve.on == always:
        return always
    param = preserve.param
    if always:
        raise UnsupportedValue(f"{param}: {profile.name} always keeps past reasoning", param)
    if profile.preserving == "never":
        raise UnsupportedValue(f"{param} is not supported by this server for {profile.name}", param)
    if not thinks:
        raise UnsupportedValue(f"{param}: past reasoning is kept only while the model thinks", param)
    return True


def _always_thinks(param: str, profile: ModelProfile) -> str:
    if param == "thinking.type":
        # As the vendor's API words it.
        return "invalid thinking: only type=enabled is allowed for this model"
    return f"{param}: {profile.name} always thinks"
