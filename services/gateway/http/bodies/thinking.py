"""All the ways in which a chat body says whether the model reasons, and which past reasoning it sees."""

from __future__ import annotations

from msgspec import Struct

from services.common.errors import InvalidRequest
from services.families.model_profile import ModelProfile
from services.gateway.http.bodies.chat import ChatBody
from services.gateway.http.bodies.fields.nested import EFFORTS
from services.gateway.pipeline.prompt.thinking import Switch, ThinkingMode, thinking_mode
from services.gateway.strict_object import strict_object


class _ThinkingBody(Struct):
    type: str = "enabled"
    keep: str | None = None


class _TemplateBody(Struct):
    thinking: bool = True
    enable_thinking: bool = True
    preserve_thinking: bool | None = None
    reasoning_effort: str | None = None


class _ReasoningBody(Struct):
    effort: str | None = None
    enabled: bool = True


_NONE_GIVEN = (None,) * 6


def read_thinking(body: ChatBody, profile: ModelProfile) -> ThinkingMode:
    """Raises InvalidRequest or UnsupportedValue naming the field."""
    switches = (
        body.thinking, body.chat_template_kwargs, body.reasoning, body.reasoning_effort,
        body.enable_thinking, body.preserve_thinking,
    )  # fmt: skip
    if switches == _NONE_GIVEN:
        return thinking_mode(profile, None, None)
    moonshot, engine, router = _ThinkingBody(), _TemplateBody(), _ReasoningBody()
    if body.thinking:
        moonshot = strict_object(body.thinking, _ThinkingBody, "thinking")
    if body.chat_template_kwargs:
        engine = strict_object(body.chat_template_kwargs, _TemplateBody, "chat_template_kwargs")
    if body.reasoning:
        router = strict_object(body.reasoning, _ReasoningBody, "reasoning", {"exclude": False})
    _check(moonshot.type, ("enabled", "disabled"), "thinking.type")
    _check(moonshot.keep, ("all",), "thinking.keep")
    efforts = {
        "reasoning_effort": body.reasoning_effort,
        "chat_template_kwargs.reasoning_effort": engine.reasoning_effort,
        "reasoning.effort": router.effort,
    }
    for name, value in efforts.items():
        _check(value, EFFORTS, name)
    on = {
        "thinking.type": moonshot.type == "enabled",
        "chat_template_kwargs.thinking": engine.thinking,
        "chat_template_kwargs.enable_thinking": engine.enable_thinking,
        "reasoning.enabled": router.enabled,
        **{name: value != "none" for name, value in efforts.items()},
        "enable_thinking": body.enable_thinking is not False,
    }
    off = next((Switch(False, name) for name, value in on.items() if not value), None)
    keep = {
        "thinking.keep": None if moonshot.keep is None else True,
        "chat_template_kwargs.preserve_thinking": engine.preserve_thinking,
        "preserve_thinking": body.preserve_thinking,
    }
    return thinking_mode(profile, off, _agreed(keep))


def _check(value: str | None, known: tuple[str, ...], name: str) -> None:
    if value is not None and value not in known:
        raise InvalidRequest(f"{name} is {value!r}; it is one of {', '.join(known)}", name)


def _agreed(fields: dict[str, bool | None]) -> Switch | None:
    """Returns the switch that the fields set together. Raises InvalidRequest if two contradict each other."""
    agreed: Switch | None = None
    for name, value in fields.items():
        if value is None:
            continue
        agreed = agreed or Switch(value, name)
        if agreed.on != value:
            raise InvalidRequest(f"{name} contradicts {agreed.param}", name)
    return agreed
