"""The part of a JSON schema that a grammar can enforce."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from llguidance import LLMatcher

from services.common.errors import InvalidRequest
from services.common.grammar_limits import Effort, WorkMeter, grammar_limits
from services.families.conversation import Json
from services.gateway.constraint.exclusive import Exclusiveness
from services.gateway.constraint.formats import FORMAT_PATTERNS, LIBRARY_FORMATS, UNENFORCEABLE_FORMATS
from services.gateway.constraint.keywords import parts
from services.gateway.constraint.number_bounds import fit_counts, fit_range, is_exact
from services.gateway.constraint.recursion import check_recursion
from services.gateway.constraint.references import References

# Kept as they are; every other keyword that is not handled below says nothing about validity.
# fmt: off
_PLAIN = frozenset({
    "type", "enum", "const", "required", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "maxProperties",
})
_SCHEMA = ("items", "additionalProperties", "additionalItems")
_SCHEMAS = ("anyOf", "allOf", "prefixItems")
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
_BEYOND = frozenset({
    "not", "if", "contains", "propertyNames", "unevaluatedProperties", "unevaluatedItems",
    "dependentRequired", "dependentSchemas", "dependencies", "$dynamicRef", "$recursiveRef",
})
# fmt: on
_JOINING = ("allOf", "anyOf", "oneOf", "$ref")
# What the library says where a limit of its work was met.
_LIMITS = ("limit", "fuel", "too big", "too large", "too many", "exceed")
_RANGE = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


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
    """Reads one schema, bounded before (see bounds.py), whose references are URI references.

    `declared_order`: properties come in the order the tool declaration shows, required ones first, then by
    name; otherwise as they stand. Narrower than the schema, on purpose: properties that are not declared are
    not generated where the schema says nothing about them; whole numbers fit 64 bits, and so do others whose
    bounds do not; dates have years up to 9999, no leap seconds; addresses are of the usual form.
    """

    def __init__(
        self, root: Json, meter: WorkMeter, *, declared_order: bool, closes: bool | None = None
    ) -> None:
        """`closes`: whether objects are closed to what is not declared; None: where that is possible."""
        self._root = root
        self._meter = meter
        self._declared_order = declared_order
        self._references = References(root)
        self._findings: list[Finding] = []
        self._closes = not _joins(root) if closes is None else closes
        # For each `oneOf`: where it stands, its schemas as they were read, and the types beside it.
        self._alternatives: list[tuple[str, list[Json], Json]] = []
        self._errors: dict[str, str] = {}

    def read(self) -> Enforceable:
        """Raises InvalidRequest where a reference is wrong, or leads to what would have to contain itself.

        So it does where it takes too much work. Its message begins with the path.
        """
        check_recursion(self._root, self._references)
        schema = self._schema(self._root, "")
        self._check_alternatives(schema)
        return Enforceable(schema, tuple(self._findings))

    def _check_alternatives(self, root: Json) -> None:
        """Finds each `oneOf` that is more than the `anyOf` which it was read as."""
        if not self._alternatives:
            return
        reader = EnforceableReader(self._root, self._meter, declared_order=self._declared_order, closes=False)
        exclusiveness = Exclusiveness(root, reader._schema(self._root, ""), self._compile_error)
        pairs = zip(self._alternatives, reader._alternatives, strict=True)
        for (path, read, types), (_, opened, _) in pairs:
            if exclusiveness.overlap(read, opened, types, path):
                self._find(path, "oneOf", "what is valid under one of its schemas may be so under another")

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
            elif key == "oneOf" and isinstance(value, list):
                members = [self._schema(member, f"{at}[{index}]") for index, member in enumerate(value)]
                self._alternatives.append((path, members, schema.get("type")))
                if "anyOf" in schema:
                    read.setdefault("allOf", []).append({"anyOf": members})
                else:
                    read["anyOf"] = members
            elif key in _SCHEMAS and isinstance(value, list):
                members = [self._schema(member, f"{at}[{index}]") for index, member in enumerate(value)]
                read[key] = [*read.get(key, ()), *members]  # a pattern may have put one there
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
        why = self._why_not({"type": "string", "pattern": str(value)})
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
            read.setdefault("allOf", []).append({"pattern": pattern})
        else:
            read["pattern"] = pattern

    def _why_not(self, schema: Json) -> str:
        """Why the library cannot use a small schema; empty: it can."""
        text = json.dumps(schema)
        if text not in self._errors:
            self._errors[text] = self._compile_error(schema)
        return self._errors[text]

    def _compile_error(self, schema: Json) -> str:
        self._meter.check("reading it", "")
        return compile_error(schema, self._meter.effort)

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
        self._tidy_numbers(read, path)
        self._tidy_object(read, path)

    def _tidy_numbers(self, read: dict[str, Json], path: str) -> None:
        for key in ("const", "enum"):
            if key in read and not is_exact(read[key]):
                del read[key]
                self._find(path, key, "a whole number in it is beyond 2^53")
        for key, why in (fit_counts(read) | fit_range(read)).items():
            self._find(path, key, why)
        if "multipleOf" in read:
            bounds = {key: read[key] for key in _RANGE if key in read}
            why = self._why_not({"type": "number", **bounds})
            if why and "Unsatisfiable" not in why:
                del read["multipleOf"]
                self._find(path, "multipleOf", why)

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
        is_open = read.get("additionalProperties") is not False or bool(read.get("patternProperties"))
        if read.get("minProperties", 0) > 1 and is_open:
            read.pop("minProperties")
            self._find(path, "minProperties", "a grammar cannot tell a new name from a repeated one")


def compile_error(schema: Json, effort: Effort = Effort.WHOLE) -> str:
    """Why the library refuses a schema, in one line; empty: it does not. Bounded in time by its fuel.

    Raises InvalidRequest where QUICK effort may not suffice to know.
    """
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
    failed, messages = LLMatcher.validate_grammar_with_warnings(grammar, limits=grammar_limits(effort))
    if not failed:
        return ""
    if effort is Effort.QUICK and any(word in messages[0].lower() for word in _LIMITS):
        raise InvalidRequest(": it is large", "")
    lines = [line.strip() for line in messages[0].splitlines() if line.strip()]
    cause = next((line for line in lines if line.startswith("error:")), lines[0])
    return cause.removeprefix("error:").rpartition("failed to compile JSON schema:")[2].strip()


def _joins(value: Json) -> bool:
    """Whether several schemas describe one object somewhere, so that none may be closed to the others."""
    if not isinstance(value, dict):
        return False
    if "allOf" in value or ("properties" in value and any(key in value for key in _JOINING)):
        return True
    return any(_joins(part) for _, part in parts(value))


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
