"""Objects within bodies, in which every field is honoured or refused by name.

Bodies hold them as JSON, described here for /openapi.json; `strict_object` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from services.gateway.strict_object import strict_object

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_FLAG = {"type": ["boolean", "null"]}
_TEXT = {"type": ["string", "null"]}
_FALSE = {"enum": [False, None]}
_EFFORT = {"enum": [*EFFORTS, None]}


def _strict(required: Sequence[str] = (), **properties: Any) -> dict[str, Any]:
    """Describes an object that `strict_object` reads."""
    return {"properties": properties, "required": list(required), "additionalProperties": {"type": "null"}}


URL = {"type": "object", **_strict(["url"], url={"type": "string"}, detail=_TEXT, format=_TEXT)}
"""Describes an object with a URL."""

UrlField: TypeAlias = Annotated[
    dict[str, Any],
    Meta(description="A URL of `data:`, `http:` or `https:`; all else in it is ignored if it is known."),
]
StreamOptionsField: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="Only with `stream`. Usage in a last chunk without choices, or so far, in every chunk.",
        extra_json_schema=_strict(
            include_usage=_FLAG, continuous_usage_stats=_FLAG, include_obfuscation=_FALSE
        ),
    ),
]
ThinkingField: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="Moonshot's switch; `keep`: whether all past reasoning stays in the prompt.",
        extra_json_schema=_strict(type={"enum": ["enabled", "disabled", None]}, keep={"enum": ["all", None]}),
    ),
]
TemplateField: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="The self-hosted engines' switches; the first two mean the same.",
        extra_json_schema=_strict(
            thinking=_FLAG, enable_thinking=_FLAG, preserve_thinking=_FLAG, reasoning_effort=_EFFORT
        ),
    ),
]
ReasoningField: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="The switch of gateways to several models. The effort `none` switches reasoning off.",
        extra_json_schema=_strict(effort=_EFFORT, enabled=_FLAG, exclude=_FALSE),
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


def read_url(given: dict[str, Any] | str, where: str) -> tuple[str, str]:
    """A part's URL, and the field it is in."""
    if isinstance(given, str):
        return given, where
    return strict_object(given, UrlBody, where).url, f"{where}.url"


def read_stream_options(given: dict[str, Any] | None) -> StreamOptionsBody:
    """Null means none. Raises InvalidRequest or UnsupportedValue naming the field."""
    if not given:
        return StreamOptionsBody()
    neutral = {"include_obfuscation": False}
    return strict_object(given, StreamOptionsBody, "stream_options", neutral)
