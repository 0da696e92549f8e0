"""Objects within bodies, in which every field is honoured or refused by name.

Bodies hold them as JSON, described here for /openapi.json; `strict_object` reads them.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from services.common.errors import InvalidRequest
from services.gateway.strict_object import strict_object

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_FLAG = {"type": ["boolean", "null"]}
_TEXT = {"type": ["string", "null"]}

UrlField: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="A URL of `data:`, `http:` or `https:`; all else in it is ignored if it is known.",
        extra_json_schema={"properties": {"url": {"type": "string"}, "detail": _TEXT}, "required": ["url"]},
    ),
]
StreamOptionsField: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="Only with `stream`. Usage in a last chunk without choices, or so far, in every chunk.",
        extra_json_schema={"properties": {"include_usage": _FLAG, "continuous_usage_stats": _FLAG}},
    ),
]
ThinkingField: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="Moonshot's switch.",
        extra_json_schema={"properties": {"type": {"enum": ["enabled", "disabled", None]}}},
    ),
]
TemplateField: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="The self-hosted engines' switches; both names mean the same.",
        extra_json_schema={"properties": {"thinking": _FLAG, "enable_thinking": _FLAG}},
    ),
]
ReasoningField: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="The switch of gateways to several models. The effort `none` switches reasoning off.",
        extra_json_schema={"properties": {"effort": {"enum": [*EFFORTS, None]}, "enabled": _FLAG}},
    ),
]


class UrlBody(Struct):
    """`detail` is ignored: the model has one rule for all sizes. So is `format`: files say what they are."""

    url: str
    detail: str | None = None
    format: str | None = None


class StreamOptionsBody(Struct):
    """Which chunks have usage."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class _ThinkingBody(Struct):
    type: str = "enabled"


class _TemplateBody(Struct):
    thinking: bool = True
    enable_thinking: bool = True
    reasoning_effort: str | None = None


class _ReasoningBody(Struct):
    effort: str | None = None
    enabled: bool = True


def read_url(given: dict[str, Any] | str, where: str) -> tuple[str, str]:
    """A part's URL, and the field it is in."""
    if isinstance(given, str):
        return given, where
    return strict_object(given, UrlBody, where).url, f"{where}.url"


def read_stream_options(given: dict[str, Any] | None) -> StreamOptionsBody:
    """Null means none. Raises InvalidRequest or UnsupportedValue naming the field."""
    neutral = {"include_obfuscation": False}
    return strict_object(given or {}, StreamOptionsBody, "stream_options", neutral)


def switches_thinking_off(
    thinking: dict[str, Any] | None,
    template: dict[str, Any] | None,
    reasoning: dict[str, Any] | None,
    effort: str | None,
) -> bool:
    """Whether any switch says so. Raises InvalidRequest or UnsupportedValue naming the field."""
    moonshot = strict_object(thinking or {}, _ThinkingBody, "thinking")
    engine = strict_object(
        template or {}, _TemplateBody, "chat_template_kwargs", {"preserve_thinking": False}
    )
    router = strict_object(reasoning or {}, _ReasoningBody, "reasoning", {"exclude": False})
    if moonshot.type not in ("enabled", "disabled"):
        raise InvalidRequest(
            f"thinking.type is {moonshot.type!r}; it is 'enabled' or 'disabled'", "thinking.type"
        )
    efforts = {
        "reasoning_effort": effort,
        "chat_template_kwargs.reasoning_effort": engine.reasoning_effort,
        "reasoning.effort": router.effort,
    }
    for name, value in efforts.items():
        if value is not None and value not in EFFORTS:
            raise InvalidRequest(f"{name} is not one of {', '.join(EFFORTS)}", name)
    on = engine.thinking and engine.enable_thinking and router.enabled and moonshot.type == "enabled"
    return not on or "none" in efforts.values()
