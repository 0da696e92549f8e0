from __future__ import annotations

import pytest

from services.families.kimi.output.fitting_tool import fitting_tool


def schema(required=(), **properties):
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT, COUNT = {"type": "string"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("arguments", "schemas", "name"),
    [
        ('{"city": "Oslo"}', {"a": schema(city=TEXT), "b": schema(path=TEXT)}, "a"),
        ('{"city": "Oslo"}', {"a": schema(city=TEXT), "b": schema(city=TEXT)}, ""),
        ('{"city": "Oslo"}', {"a": schema(city=TEXT), "b": schema(["day"], city=TEXT, day=TEXT)}, "a"),
        ('{"id": 7}', {"a": schema(id=TEXT), "b": schema(id=COUNT)}, "b"),
        ('{"id": 7}', {"a": schema(id={"type": ["string", "null"]}), "b": schema(id={})}, "b"),
        ('{"on": true}', {"a": schema(on=COUNT), "b": schema(on={"type": "boolean"})}, "b"),
        ('{"unit": "C"}', {"a": schema(unit={"enum": ["C", "F"]}), "b": schema(unit={"enum": ["m"]})}, "a"),
        ("{}", {"a": schema(["city"], city=TEXT), "b": None}, "b"),
        ('{"x": 1}', {"a": {"type": "object"}, "b": None}, ""),
        ("[]", {"a": schema()}, ""),
        ("{", {"a": schema()}, ""),
        ("[" * 5000, {"a": schema()}, ""),
        ("{}", {}, ""),
        ('{"x": 1}', {"a": {"properties": {"x": False}}, "b": {"properties": {"x": True}}}, "b"),
        ('{"x": 1}', {"a": {"properties": 3, "required": "x"}, "b": schema(x={"type": 5})}, "b"),
    ],
)
def test_the_only_tool_that_fits_is_meant(arguments, schemas, name):
    assert fitting_tool(arguments, schemas) == name
