"""The types of JSON schemas in words, as HTML."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_MOST_VALUES = 12
# By the names of both bounds: what is counted.
_RANGES = (
    ("minimum", "maximum", ""),
    ("minLength", "maxLength", " characters"),
    ("minItems", "maxItems", ""),
    ("minProperties", "maxProperties", " entries"),
)


def type_words(node: Mapping[str, Any], *, fields: bool = False) -> str:
    """What a value may be. Null is left out: it always means absent.

    `fields`: whether the fields of an object are named, if it can be nothing else.
    """
    found = list(dict.fromkeys(_alternatives(node)))
    if fields and found == ["object"] and (named := _fields(node)):
        return named
    return " or ".join(found) or "null"


def values_words(values: Sequence[Any]) -> str:
    """Values as JSON spells them."""
    shown = [_code(json.dumps(value, ensure_ascii=False)) for value in values[:_MOST_VALUES]]
    return ", ".join(shown) + (", …" if len(values) > _MOST_VALUES else "")


def _alternatives(node: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in node:
        name = html.escape(node["$ref"].rpartition("/")[2])
        yield f'<a href="#{name}">{name}</a>'
    elif "enum" in node or "const" in node:
        values = [value for value in node.get("enum", [node.get("const")]) if value is not None]
        if values:
            yield values_words(values)
    elif "type" not in node and "anyOf" in node:
        for each in node["anyOf"]:
            yield from _alternatives(each)
    else:
        kinds = node.get("type", "any value")
        for kind in [kinds] if isinstance(kinds, str) else kinds:
            if kind != "null":
                yield _kind(kind, node)


def _kind(kind: str, node: Mapping[str, Any]) -> str:
    items = node.get("items")
    if kind == "array" and isinstance(items, dict):
        return f"list{_limits(node)} of {type_words(items)}"
    return kind + _limits(node)


def _fields(node: Mapping[str, Any]) -> str:
    """The fields of an object that are not always null, or "" if it names none."""
    for each in (node, *node.get("anyOf", ())):
        if properties := each.get("properties"):
            words = [(name, type_words(field)) for name, field in properties.items()]
            return f"object: {'; '.join(f'{_code(name)} {kind}' for name, kind in words if kind != 'null')}"
    return ""


def _limits(node: Mapping[str, Any]) -> str:
    found = [f"above {node['exclusiveMinimum']:g}"] if "exclusiveMinimum" in node else []
    found += [_range(node.get(low), node.get(high), what) for low, high, what in _RANGES]
    shown = ", ".join(filter(None, found))
    return f" ({shown})" if shown else ""


def _range(low: float | None, high: float | None, what: str) -> str:
    if low is None:
        return "" if high is None else f"at most {_number(high)}{what}"
    return f"at least {_number(low)}{what}" if high is None else f"{_number(low)} to {_number(high)}{what}"


def _number(value: float) -> str:
    """Large limits are those of the machine's numbers: a power of two."""
    for bits in (31, 63, 64):
        if abs(value) in (1 << bits, (1 << bits) - 1):
            minus, less = "-" if value < 0 else "", "" if abs(value) == 1 << bits else "-1"
            return f"{minus}2<sup>{bits}</sup>{less}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _code(text: str) -> str:
    return f"<code>{html.escape(text)}</code>"
