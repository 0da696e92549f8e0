"""Converts texts and TOML values to a field's type."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from services.common.errors import ConfigError

_METAVARS: Mapping[Any, str] = MappingProxyType({int: "N", float: "X", Path: "PATH"})
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def convert(key: str, value: object, hint: Any, source: str) -> object:
    """Converts `value` to the type `hint`. Raises ConfigError naming `key` and `source`.

    `hint`: str, int, float, bool, Path, a Literal of texts, tuple[str, ...], a union of a number and a
    Literal, or a union of one of these and None (an empty text becomes None).
    """
    base, optional = _base(hint)
    if optional and (value is None or value == ""):
        return None
    try:
        return _converted(value, base)
    except ValueError as error:
        raise ConfigError(f"{key}: {value!r} is not {error} (from {source})") from error


def scaled(key: str, value: object, factor: float, source: str) -> float:
    """Returns a number given in another unit, times `factor`. Raises ConfigError as `convert` does."""
    number = convert(key, value, float, source)
    assert isinstance(number, float)
    return number * factor


def flag_options(hint: Any) -> dict[str, Any]:
    """Returns argparse's arguments for a flag of this type, except name and help."""
    base, _ = _base(hint)
    if base is bool:
        return {"action": argparse.BooleanOptionalAction}
    if get_origin(base) is Literal:
        return {"metavar": "{" + ",".join(get_args(base)) + "}"}
    if get_origin(base) in (Union, UnionType):
        words, number = _words_and_number(base)
        return {"metavar": "{" + ",".join((*words, _METAVARS[number])) + "}"}
    return {"metavar": _METAVARS.get(base, "TEXT")}


def _base(hint: Any) -> tuple[Any, bool]:
    """Returns the type without `None`, and whether `None` was a member."""
    if get_origin(hint) in (Union, UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        if len(members) == 1:
            return members[0], True
    return hint, False


def _converted(value: object, base: Any) -> object:
    """Converts a value. Raises ValueError with a text that completes "is not …"."""
    if get_origin(base) in (Union, UnionType):
        return _word_or_number(value, base)
    if base is bool:
        return _boolean(value)
    if base is int:
        return _number(value, int, "a whole number")
    if base is float:
        return _number(value, float, "a number")
    if get_origin(base) is tuple:
        return _texts(value)
    if not isinstance(value, str) and not (base is Path and isinstance(value, Path)):
        raise ValueError("a text")
    if get_origin(base) is Literal:
        if value not in get_args(base):
            raise ValueError("one of " + ", ".join(get_args(base)))
        return value
    return Path(value) if base is Path else value


def _words_and_number(base: Any) -> tuple[tuple[str, ...], type[int] | type[float]]:
    """The members of a union of a Literal and a number."""
    members = get_args(base)
    words = next(get_args(member) for member in members if get_origin(member) is Literal)
    return words, next(member for member in members if member in (int, float))


def _word_or_number(value: object, base: Any) -> object:
    words, number = _words_and_number(base)
    if value in words:
        return value
    try:
        return _converted(value, number)
    except ValueError as error:
        raise ValueError(f"{error} or {' or '.join(words)}") from None


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError("true or false")
    return text in _TRUE


def _number(value: object, kind: type[int] | type[float], name: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(name)
    if kind is int and isinstance(value, float):
        raise ValueError(name)
    try:
        return kind(value)
    except ValueError:
        raise ValueError(name) from None


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return tuple(value)
    raise ValueError("a list of texts")
