"""The part of a JSON schema that a grammar can enforce."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llguidance import LLMatcher

from services.common.errors import InvalidRequest
from services.common.grammar_limits import grammar_limits
from services.gateway.chat.constraint.formats import FORMAT_PATTERNS, LIBRARY_FORMATS, UNENFORCEABLE_FORMATS
from services.gateway.chat.constraint.references import References
from services.gateway.chat.messages import Json

# Kept as they are; every other keyword that is not handled below says nothing about validity.
# fmt: off
_PLAIN = frozenset({
    "type", "enum", "const", "required", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "maxProperties",
})
_SCHEMA = ("items", "additionalProperties", "additionalItems")
_SCHEMAS = ("anyOf", "allOf", "oneOf", "prefixItems")
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
_BEYOND = frozenset({
    "not", "if", "contains", "propertyNames", "unevaluatedProperties", "unevaluatedItems",
    "dependentRequired", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef",
})
# fmt: on
_JOINING = ("allOf", "anyOf", "oneOf", "$ref")
# Whole numbers that fit 64 bits, with room for the library's own arithmetic.
_MOST_INTEGER = 2**63 - 1025


@dataclass(frozen=True)
class Finding:
    """A keyword that no grammar enforces, and where it stands; `path` is relative: `.properties.city`."""

    path: str
    keyword: str
    why: str


@dataclass(frozen=True)
class Enforceable:
    """`schema` accepts what the original does, less what is said below, and more where there are findings."""

    schema: Json
    findings: tuple[Finding, ...]


class EnforceableReader:
    """Reads one schema, bounded before (see bounds.py).

    `declared_order`: properties come in the order the tool declaration shows, required ones first, then by
    name; otherwise as they stand. Narrower than the schema, on purpose: properties that are not declared are
    not generated where the schema says nothing about them; whole numbers fit 64 bits; dates have years up to
    9999, no leap seconds; addresses are of the usual form.
    """

    def __init__(self, root: Json, *, declared_order: bool) -> None:
        self._root = root
        self._declared_order = declared_order
        self._references = References(root)
        self._findings: list[Finding] = []
        self._closes = not _joins(root)
        self._patterns: dict[str, str] = {}

    def read(self) -> Enforceable:
        """Raises InvalidRequest where a reference is wrong; its message begins with the path."""
        schema = self._schema(self._root, "")
        return Enforceable(schema, tuple(self._findings))

    def _schema(self, schema: Json, path: str) -> Json:
        if not isinstance(schema, dict):
            return schema
        read: dict[str, Json] = {}
        for key, value in schema.items():
            at = f"{path}.{key}"
            if key in _PLAIN:
                read[key] = value
            elif key in _NAMED_SCHEMAS and isinstance(value, dict):
                read[key] = {name: self._schema(member, f"{at}.{name}") for name, member in value.items()}
            elif key in _SCHEMAS and isinstance(value, list):
                read[key] = [self._schema(member, f"{at}[{index}]") for index, member in enumerate(value)]
            elif key in _SCHEMA and not isinstance(value, list):
                read[key] = self._schema(value, at)
            elif key in _BEYOND:
                self._find(path, key, "no grammar can express it")
            elif handler := self._handlers().get(key):
                handler(read, value, path)
        self._tidy(read, schema, path)
        return read

    def _handlers(self) -> dict[str, Callable[[dict[str, Json], Json, str], None]]:
        return {
            "$ref": self._ref,
            "items": self._tuple,
            "pattern": self._pattern,
            "format": self._format,
            "uniqueItems": self._unique_items,
            "minProperties": self._min_properties,
        }

    def _ref(self, read: dict[str, Json], value: Json, path: str) -> None:
        read["$ref"] = self._references.pointer(value, f"{path}.$ref")

    def _tuple(self, read: dict[str, Json], value: Json, path: str) -> None:
        """The older spelling of prefixItems."""
        read["prefixItems"] = [self._schema(item, f"{path}.items[{i}]") for i, item in enumerate(value)]

    def _pattern(self, read: dict[str, Json], value: Json, path: str) -> None:
        why = self._why_not(str(value))
        if why:
            self._find(path, "pattern", why)
        else:
            self._add_pattern(read, value)

    def _format(self, read: dict[str, Json], value: Json, path: str) -> None:
        if value in FORMAT_PATTERNS:
            self._add_pattern(read, FORMAT_PATTERNS[value])
        elif value in LIBRARY_FORMATS:
            read["format"] = value
        elif value in UNENFORCEABLE_FORMATS:
            self._find(path, "format", f"no grammar can express {value!r}")

    def _unique_items(self, read: dict[str, Json], value: Json, path: str) -> None:
        if value:
            self._find(path, "uniqueItems", "no grammar can express it")

    def _min_properties(self, read: dict[str, Json], value: Json, path: str) -> None:
        read["minProperties"] = value

    def _add_pattern(self, read: dict[str, Json], pattern: str) -> None:
        if "pattern" in read:
            read.setdefault("allOf", []).append({"type": "string", "pattern": pattern})
        else:
            read["pattern"] = pattern

    def _why_not(self, pattern: str) -> str:
        """Why the library cannot use a pattern; empty: it can."""
        if pattern not in self._patterns:
            self._patterns[pattern] = compile_error({"type": "string", "pattern": pattern})
        return self._patterns[pattern]

    def _find(self, path: str, keyword: str, why: str) -> None:
        self._findings.append(Finding(path, keyword, why))

    # -- what depends on several keywords ------------------------------------------------------------------

    def _tidy(self, read: dict[str, Json], schema: dict[str, Json], path: str) -> None:
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            # In draft 4 it says of the other bound whether that is excluded.
            flag = read.pop(exclusive) if isinstance(read.get(exclusive), bool) else False
            if flag and bound in read:
                read[exclusive] = read.pop(bound)
        if "prefixItems" in read and "additionalItems" in read:
            read["items"] = read.pop("additionalItems")
        read.pop("additionalItems", None)
        kinds = read.get("type")
        if "integer" in (kinds if isinstance(kinds, list) else [kinds]) and not read.keys() & {
            "enum",
            "const",
        }:
            if not read.keys() & {"minimum", "exclusiveMinimum"}:
                read["minimum"] = -_MOST_INTEGER
            if not read.keys() & {"maximum", "exclusiveMaximum"}:
                read["maximum"] = _MOST_INTEGER
        self._tidy_object(read, path)

    def _tidy_object(self, read: dict[str, Json], path: str) -> None:
        required = [name for name in read.get("required") or () if isinstance(name, str)]
        least = read.get("minProperties", 0)
        if least <= len(set(required)):
            read.pop("minProperties", None)
        if "properties" in read:
            properties = read["properties"]
            if self._closes and "additionalProperties" not in read and "patternProperties" not in read:
                read["additionalProperties"] = False
                properties |= {name: {} for name in required if name not in properties}
            if self._declared_order:
                order = sorted(properties, key=lambda name: (name not in required, name))
                read["properties"] = {name: properties[name] for name in order}
        if read.get("minProperties", 0) > 1 and read.get("additionalProperties") is not False:
            read.pop("minProperties")
            self._find(path, "minProperties", "a grammar cannot tell a new name from a repeated one")


def compile_error(schema: Json) -> str:
    """Why the library refuses a schema, in one line; empty: it does not. Bounded in time by its fuel."""
    grammar = LLMatcher.grammar_from_json_schema(schema)
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar, limits=grammar_limits())
    if not failed:
        return ""
    lines = [line.strip() for line in messages[0].splitlines() if line.strip()]
    cause = next((line for line in lines if line.startswith("error:")), lines[0])
    return cause.removeprefix("error:").rpartition("failed to compile JSON schema:")[2].strip()


def _joins(value: Json) -> bool:
    """Whether several schemas describe one object somewhere, so that none may be closed to the others."""
    if isinstance(value, list):
        return any(map(_joins, value))
    if not isinstance(value, dict):
        return False
    if "allOf" in value or ("properties" in value and any(key in value for key in _JOINING)):
        return True
    return any(_joins(member) for member in value.values())


def as_arguments(schema: Json, param: str) -> Json:
    """A tool's `parameters` as a schema of objects. Raises InvalidRequest where no object is valid."""
    if schema is None:
        return {"type": "object", "properties": {}}
    if not isinstance(schema, dict):
        raise InvalidRequest(f"{param} is no schema of an object", param)
    kinds = schema.get("type", "object")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        raise InvalidRequest(f"{param}.type is {kinds!r}; arguments are an object", f"{param}.type")
    return {**schema, "type": "object"}
