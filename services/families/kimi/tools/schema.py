"""JSON schemas to types, with the published encoder's reading of them, gaps included."""

from __future__ import annotations

import json
from collections.abc import Callable

from services.families.conversation import Json
from services.families.kimi.tools.literals import write_enum
from services.families.kimi.tools.typescript import ArrayOf, Documented, Field, Record, TsType, Union, Word

ROOT_NAME = "parameters"
_DEFINITIONS = "#/$defs/"
_CONSTRAINTS = {
    "string": ("maxLength", "minLength", "pattern"),
    "number": ("maximum", "minimum"),
    "integer": ("maximum", "minimum"),
    "array": ("maxItems", "minItems"),
}
_IN_UNION = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "null": "null",
    "object": "{}",
    "array": "Array<any>",
}


class UnsupportedSchema(ValueError):
    """The published encoder refuses this schema; the declaration falls back to JSON."""


class SchemaReader:
    """Reads the schemas of one function. Keys are expected to be sorted.

    `definitions`: every `$defs` entry met so far, by name, unread; `refers_to_root`: whether a `#` was met.
    """

    def __init__(self) -> None:
        self.definitions: dict[str, Json] = {}
        self.refers_to_root = False

    def read(self, schema: Json) -> Documented:
        """Raises UnsupportedSchema."""
        if schema is True or schema == {}:
            return Documented(Word("any"))
        if schema is False:
            return Documented(Word("null"))
        _expect(schema, dict, "a schema")
        kind, reader = self._reader(schema)
        return Documented(
            type=reader(schema),
            comments=tuple(filter(None, (description(schema), _constraints(schema, kind)))),
            default=_default(schema.get("default")),
        )

    def read_object(self, schema: Json) -> Record:
        """Any schema read as an object's; required fields come first. Raises UnsupportedSchema."""
        _expect(schema, dict, "a schema")
        self.definitions.update(_expect(schema.get("$defs") or {}, dict, "$defs"))
        required = _expect(schema.get("required", []), list, "required")
        properties = _expect(schema.get("properties", {}), dict, "properties")
        fields = [Field(name, name in required, self.read(value)) for name, value in properties.items()]
        fields.sort(key=lambda field: (not field.required, field.name))
        return Record(tuple(fields), self._rest(schema.get("additionalProperties")))

    def _reader(self, schema: dict[str, Json]) -> tuple[str, Callable[[dict[str, Json]], TsType]]:
        """What kind of schema it is and how that is read; the first key that is present decides."""
        if "$ref" in schema:
            return "$ref", self._reference
        if "anyOf" in schema:
            return "anyOf", self._any_of
        if "enum" in schema:
            return "enum", _enum
        kind = schema.get("type")
        if isinstance(kind, list):
            return "union", _union
        if not isinstance(kind, str):
            raise UnsupportedSchema("a schema needs one of $ref, anyOf, enum and type")
        readers = {"object": self.read_object, "array": self._array}
        return kind, readers.get(kind, _scalar)

    def _reference(self, schema: dict[str, Json]) -> TsType:
        target = schema["$ref"]
        if target == "#":
            self.refers_to_root = True
            return Word(ROOT_NAME)
        _expect(target, str, "$ref")
        # Only the last component counts, even where the path leads elsewhere.
        name = target.rsplit("/", 1)[-1]
        if not target.startswith(_DEFINITIONS) or name not in self.definitions:
            raise UnsupportedSchema(f"$ref {target!r} names no definition met so far")
        return Word(name)

    def _any_of(self, schema: dict[str, Json]) -> TsType:
        members = _expect(schema["anyOf"], list, "anyOf")
        return Union(tuple(self.read(member).type for member in members))

    def _array(self, schema: dict[str, Json]) -> TsType:
        items = schema.get("items")
        return ArrayOf(self.read(items) if items else Documented(Word("any")))

    def _rest(self, schema: Json) -> TsType | None:
        if schema is None:
            return None
        return Word("never") if schema is False else self.read(schema).type


def description(schema: dict[str, Json]) -> str:
    """The schema's description, empty where there is none. Raises UnsupportedSchema if it is no text."""
    text: str = _expect(schema.get("description") or "", str, "description")
    return text


def _enum(schema: dict[str, Json]) -> TsType:
    try:
        return Word(write_enum(_expect(schema["enum"], list, "enum"), schema.get("type")))
    except ValueError as error:
        raise UnsupportedSchema(str(error)) from error


def _union(schema: dict[str, Json]) -> TsType:
    names = [_expect(name, str, "a type") for name in schema["type"]]
    if not _IN_UNION.keys() >= set(names):
        raise UnsupportedSchema(f"one of the types {names} is unknown")
    return Union(tuple(Word(_IN_UNION[name]) for name in names))


def _scalar(schema: dict[str, Json]) -> TsType:
    return Word("number" if schema["type"] == "integer" else schema["type"])


def _constraints(schema: dict[str, Json], kind: str) -> str:
    keys = _CONSTRAINTS.get(kind, ())
    return ", ".join(f"{key}: {schema[key]}" for key in keys if key in schema)


def _default(value: Json) -> str | None:
    if value is None:
        return None
    return str(value) if isinstance(value, bool | int | float) else json.dumps(value, ensure_ascii=False)


def _expect(value: Json, kind: type, what: str) -> Json:
    if not isinstance(value, kind):
        raise UnsupportedSchema(f"{what} is {value!r}")
    return value
