"""Whether the schemas of a `oneOf` exclude each other: what is valid under one is so under it alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import permutations

from services.families.conversation import Json
from services.gateway.constraint.keywords import with_parts
from services.gateway.constraint.references import References

_READ, _OPEN = "x-read", "x-open"


class Exclusiveness:
    """Compares what grammars generate under one schema with what is valid under another.

    They differ where a grammar closes an object to properties that are not declared: then an answer under one
    schema may be valid under another one although no answer is generated under both.
    """

    def __init__(self, read_root: Json, open_root: Json, compile_error: Callable[[Json], str]) -> None:
        """`read_root`: of the schemas as grammars take them; `open_root`: of the same, closed to nothing.
        `compile_error`: why the library refuses a schema, empty if it does not.
        """
        self._references = References(read_root), References(open_root)
        self._roots = {_READ: _moved(read_root, _READ), _OPEN: _moved(open_root, _OPEN)}
        self._compile_error = compile_error

    def overlap(self, read: Sequence[Json], opened: Sequence[Json], types: Json, path: str) -> bool:
        """Whether an answer under one of the schemas may be valid under another, as far as can be told.

        `read`, `opened`: the same schemas as grammars take them, and open; `types`: the `type` beside them,
        None: there is none; `path`: where they stand.
        """
        ours, theirs = (
            [_target(member, references, types, path) for member in members]
            for members, references in zip((read, opened), self._references, strict=True)
        )
        return any(
            not (_plainly_exclude(ours[one], theirs[other]) or self._exclude(read[one], opened[other], types))
            for one, other in permutations(range(len(read)), 2)
        )

    def _exclude(self, read: Json, opened: Json, types: Json) -> bool:
        both: dict[str, Json] = {"allOf": [_moved(read, _READ), _moved(opened, _OPEN)]}
        if types is not None:
            both["type"] = types
        if '"$ref"' in json.dumps(both):
            both |= self._roots
        return "Unsatisfiable" in self._compile_error(both)


def _target(schema: Json, references: References, types: Json, path: str) -> Json:
    """What a schema refers to, if it does nothing else; where that has no type, of the given ones."""
    if isinstance(schema, dict) and schema.keys() == {"$ref"}:
        schema = references.target(references.pointer(schema["$ref"], path), path)
    return {"type": types, **schema} if isinstance(schema, dict) else schema


def _plainly_exclude(one: Json, other: Json) -> bool:
    """Whether two schemas have no value in common, as most do whose author chose `oneOf`: without the work of
    the library.
    """
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    types, others = _types(one), _types(other)
    if types and others and not types & others:
        return True
    if {"object"} not in (types, others):
        return False
    return _lacks(one, other) or _lacks(other, one) or _differ(_tags(one), _tags(other))


def _types(schema: Mapping[str, Json]) -> Set[str]:
    """The types of a schema's values; none: any."""
    given = schema.get("type")
    names = {name for name in (given if isinstance(given, list) else [given]) if isinstance(name, str)}
    return names | {"integer"} if "number" in names else names


def _lacks(closed: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
    """Whether the first schema allows no property that the second one requires."""
    if closed.get("additionalProperties") is not False or closed.get("patternProperties"):
        return False
    return any(name not in closed.get("properties", {}) for name in other.get("required", ()))


def _tags(schema: Mapping[str, Json]) -> Mapping[str, Sequence[Json]]:
    """The properties that every value has and whose values are listed, each with these."""
    properties = schema.get("properties", {})
    listed = {name: _listed(properties.get(name)) for name in schema.get("required", ())}
    return {name: values for name, values in listed.items() if values}


def _listed(schema: Json) -> Sequence[Json]:
    if not isinstance(schema, dict):
        return ()
    if "const" in schema:
        return [schema["const"]]
    values: Sequence[Json] = schema.get("enum", ())
    return values


def _differ(one: Mapping[str, Sequence[Json]], other: Mapping[str, Sequence[Json]]) -> bool:
    """Whether a property of both has no value in common."""
    return any(all(value not in other[name] for value in one[name]) for name in one.keys() & other.keys())


def _moved(schema: Json, place: str) -> Json:
    """A copy whose references lead to the same within the key `place`."""
    if isinstance(schema, list):
        return [_moved(item, place) for item in schema]
    if not isinstance(schema, dict):
        return schema
    moved = with_parts(schema, lambda part: _moved(part, place))
    if isinstance(moved.get("$ref"), str):
        moved["$ref"] = f"#/{place}{moved['$ref'][1:]}"
    return moved
