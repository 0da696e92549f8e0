"""Finds fields of a JSON body that its schema does not have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.inspect import ListType, Metadata, StructType, Type, UnionType, type_info


class UnknownFields:
    """Finds members of a body that its schema lacks. Values of type Any, and dictionaries, may hold any."""

    def __init__(self, schema: type[Struct]) -> None:
        self._schema = type_info(schema)

    def of(self, body: bytes) -> list[str]:
        """Returns the paths of unknown members without places in lists, each once, in order. `body`: one that
        the schema decodes.
        """
        return list(dict.fromkeys(_unknown(msgspec.json.decode(body), self._schema, "")))


def _unknown(value: Any, kind: Type, path: str) -> Iterator[str]:
    if isinstance(kind, Metadata):
        yield from _unknown(value, kind.type, path)
    elif isinstance(kind, UnionType):
        for each in kind.types:
            if _fits(value, each):
                yield from _unknown(value, each, path)
    elif isinstance(kind, ListType) and isinstance(value, list):
        for each in value:
            yield from _unknown(each, kind.item_type, path)
    elif isinstance(kind, StructType) and isinstance(value, dict):
        known = {field.encode_name: field.type for field in kind.fields}
        for name, each in value.items():
            inner = f"{path}.{name}" if path else name
            if name in known:
                yield from _unknown(each, known[name], inner)
            elif name != kind.tag_field:
                yield inner


def _fits(value: Any, kind: Type) -> bool:
    """Whether a union's value may be of this alternative."""
    if isinstance(kind, StructType):
        return isinstance(value, dict) and (kind.tag_field is None or value.get(kind.tag_field) == kind.tag)
    return isinstance(kind, ListType) and isinstance(value, list)
