"""Which values within a JSON schema are schemas, which are names or data, and how their paths are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from services.families.conversation import Json

# Their members are schemas by name, whatever the names are: a property may be called `allOf`.
NAMED_SCHEMAS = frozenset(
    {"properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"}
)
_DATA = frozenset({"enum", "const", "default", "examples"})


def parts(schema: dict[str, Json]) -> Iterator[tuple[tuple[str | int, ...], Json]]:
    """Every value within a schema that may be one, with the keys that lead to it; not those within these."""
    for key, value in schema.items():
        if key in _DATA:
            continue
        if key in NAMED_SCHEMAS and isinstance(value, dict):
            yield from (((key, name), member) for name, member in value.items())
        elif isinstance(value, list):
            yield from (((key, index), item) for index, item in enumerate(value))
        else:
            yield (key,), value


def with_parts(schema: dict[str, Json], change: Callable[[Json], Json]) -> dict[str, Json]:
    """A copy in which `change` replaced every value that `parts` gives."""
    changed: dict[str, Json] = {}
    for key, value in schema.items():
        if key in _DATA:
            changed[key] = value
        elif key in NAMED_SCHEMAS and isinstance(value, dict):
            changed[key] = {name: change(member) for name, member in value.items()}
        elif isinstance(value, list):
            changed[key] = [change(item) for item in value]
        else:
            changed[key] = change(value)
    return changed


def path_text(path: Iterable[str | int]) -> str:
    """Returns a path as error messages and `param` spell it: `.properties.a[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
