"""Schemas whose values could never end, because each would have to contain another."""

from __future__ import annotations

from collections.abc import Iterator

from services.common.errors import InvalidRequest
from services.families.conversation import Json
from services.gateway.constraint.keywords import parts, path_text
from services.gateway.constraint.references import References

# Keywords whose schemas describe a value or what is in it.
# fmt: off
_DESCRIBING = frozenset({
    "properties", "patternProperties", "additionalProperties", "items", "prefixItems", "additionalItems",
    "allOf", "anyOf", "oneOf",
})
# fmt: on


def check_recursion(root: Json, references: References) -> None:
    """Raises InvalidRequest, its message beginning with the path, for a reference that no finite value
    fulfils: an object that requires itself, a list of at least one of itself, a loop through allOf.

    What is false, or contradicts itself otherwise, is not looked for.
    """
    graph = _Graph(references)
    graph.add_root(root)
    graph.settle()
    for node, path, reference in graph.uses:
        if graph.is_open(node):
            raise InvalidRequest(
                f"{path}: $ref {reference!r} leads to what would have to contain itself", path
            )


class _Graph:
    """A node per schema. It is closed, known to have a finite value, when `_missing` others are."""

    def __init__(self, references: References) -> None:
        self._references = references
        self._missing: list[int] = []
        self._dependents: list[list[int]] = []
        self._closed: list[int] = []
        self._targets: dict[str, int] = {}
        self._unread: list[tuple[int, Json, str]] = []
        self.uses: list[tuple[int, str, str]] = []

    def add_root(self, root: Json) -> None:
        """Reads a schema, and all that it refers to."""
        self._targets["#"] = self._new()
        self._unread.append((self._targets["#"], root, ""))
        while self._unread:
            node, schema, path = self._unread.pop()
            self._all_of(node, self._needs(schema, path))

    def settle(self) -> None:
        """Closes every node that can be closed. Linear in the graph."""
        while self._closed:
            for dependent in self._dependents[self._closed.pop()]:
                self._missing[dependent] -= 1
                if self._missing[dependent] == 0:
                    self._closed.append(dependent)

    def is_open(self, node: int) -> bool:
        return self._missing[node] > 0

    def _new(self, missing: int = 1) -> int:
        self._missing.append(missing)
        self._dependents.append([])
        return len(self._missing) - 1

    def _all_of(self, node: int, needed: list[int]) -> None:
        self._missing[node] = len(needed)
        for other in needed:
            self._dependents[other].append(node)
        if not needed:
            self._closed.append(node)

    def _node(self, schema: Json, path: str) -> int:
        node = self._new()
        self._all_of(node, self._needs(schema, path))
        return node

    def _needs(self, schema: Json, path: str) -> list[int]:
        """What must be closed for a schema to be. Reads what is within it, not what is behind a reference."""
        if not isinstance(schema, dict):
            return []
        within = {
            keys: self._node(part, path + path_text(keys))
            for keys, part in parts(schema)
            if keys[0] in _DESCRIBING
        }
        needed = [within[keys] for keys in _contained(schema) if keys in within]
        if "$ref" in schema:
            needed.append(self._reference(schema["$ref"], f"{path}.$ref"))
        for key in ("anyOf", "oneOf"):
            members = [node for keys, node in within.items() if keys[0] == key]
            if members:
                needed.append(self._new())
                for member in members:
                    self._dependents[member].append(needed[-1])
        return needed

    def _reference(self, reference: Json, path: str) -> int:
        pointer = self._references.pointer(reference, path)
        if pointer not in self._targets:
            self._targets[pointer] = self._new()
            self._unread.append((self._targets[pointer], self._references.target(pointer, path), path))
        self.uses.append((self._targets[pointer], path, reference))
        return self._targets[pointer]


def _contained(schema: dict[str, Json]) -> Iterator[tuple[str | int, ...]]:
    """Yields the schemas that every value must satisfy, in whole or for a part that it must have."""
    members = schema.get("allOf")
    yield from (("allOf", index) for index in range(len(members) if isinstance(members, list) else 0))
    if schema.get("type") in ("object", ["object"]):
        yield from (("properties", name) for name in schema.get("required") or ())
    least = int(schema.get("minItems", 0))
    if schema.get("type") in ("array", ["array"]) and least > 0:
        key = "items" if isinstance(schema.get("items"), list) else "prefixItems"
        listed = len(schema.get(key) or ())
        yield from ((key, index) for index in range(min(least, listed)))
        if least > listed:
            yield ("additionalItems",) if key == "items" else ("items",)
