"""JSON objects in which every field must be known, because an ignored one would change the answer."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from msgspec.structs import fields

from services.common.errors import InvalidRequest, UnsupportedValue

# msgspec ends its messages with the path of the offending value: " - at `$.messages[0].role`".
_PATH = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`")
_NO_NEUTRAL: Mapping[str, bool] = MappingProxyType({})

Schema = TypeVar("Schema", bound=msgspec.Struct)


def strict_object(
    given: Mapping[str, Any],
    schema: type[Schema],
    where: str,
    neutral: Mapping[str, bool] = _NO_NEUTRAL,
) -> Schema:
    """The object `given`, which came in the field `where`. Null means absent.

    `neutral`: other fields, and which of true and false changes nothing. Raises UnsupportedValue naming the
    first field that is in neither, or whose value is not neutral; InvalidRequest for a wrong type or a
    missing field.
    """
    known = _known_fields(schema)
    taken = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in known:
            taken[name] = value
        elif name not in neutral or value is not neutral[name]:
            raise UnsupportedValue(f"{where}.{name} is not supported by this server", f"{where}.{name}")
    try:
        return msgspec.convert(taken, schema)
    except msgspec.ValidationError as error:
        raise named_error(str(error), where) from error


@functools.cache  # msgspec evaluates all annotations anew at each call
def _known_fields(schema: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(field.encode_name for field in fields(schema))


def named_error(message: str, where: str = "") -> InvalidRequest:
    """msgspec's message as an error that names the field; `where`: the field that was decoded."""
    path = where
    found = _PATH.search(message)
    if found:
        path = _joined(where, found["path"])
        message = message[: found.start()]
    missing = _MISSING.match(message)
    if missing:
        path = _joined(path, missing["field"])
    text = f"{path}: {message}" if path else message
    return InvalidRequest(text, path or None)


def _joined(path: str, more: str) -> str:
    return f"{path}.{more}" if path and not more.startswith("[") else f"{path}{more}"
