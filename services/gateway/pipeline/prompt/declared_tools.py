"""The tools that a caller declares, in the one form that templates and grammars take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from services.common.errors import InvalidRequest, UnsupportedValue
from services.families.conversation import Json

_FLAT = ("name", "description", "parameters", "strict")
_TYPES: Mapping[str, tuple[type, str]] = MappingProxyType(
    {"description": (str, "text"), "strict": (bool, "true or false")}
)


def declared_functions(tools: Sequence[Json], param: str) -> tuple[Json, ...]:
    """The tools as `{"type": "function", "function": {…}}`; those that are so already stay as they are.

    A tool without a type is a function; so is one of the Responses form, whose name stands beside the type.
    Raises UnsupportedValue for a tool of another type, InvalidRequest for what is no function or has a field
    of a wrong type.
    """
    return tuple(_function(tool, f"{param}[{index}]") for index, tool in enumerate(tools))


def _function(tool: Json, param: str) -> Json:
    if not isinstance(tool, dict):
        raise InvalidRequest(f"{param} is no object", param)
    kind, function = tool.get("type"), tool.get("function")
    if kind not in (None, "function"):
        raise UnsupportedValue(
            f"{param}.type is {str(kind)[:100]!r}; only functions can be called", f"{param}.type"
        )
    if isinstance(function, dict):
        _check_types(function, f"{param}.function")
        return tool if kind else {**tool, "type": "function"}
    if function is None and isinstance(tool.get("name"), str):
        if "input_schema" in tool:
            raise UnsupportedValue(
                f"{param}.input_schema is not read; parameters holds the schema", f"{param}.input_schema"
            )
        _check_types(tool, param)
        return {"type": "function", "function": {key: tool[key] for key in _FLAT if key in tool}}
    raise InvalidRequest(f"{param}.function must be an object with a name", f"{param}.function")


def _check_types(function: Mapping[str, Json], param: str) -> None:
    """Name and parameters are checked where they are used."""
    for field, (kind, wanted) in _TYPES.items():
        if not isinstance(function.get(field), kind | None):
            raise InvalidRequest(f"{param}.{field} is not {wanted}", f"{param}.{field}")
