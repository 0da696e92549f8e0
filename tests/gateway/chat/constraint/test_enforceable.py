"""What of a schema a grammar can say."""

from __future__ import annotations

import json

import pytest

from services.common.errors import InvalidRequest
from services.gateway.chat.constraint.enforceable import EnforceableReader, as_arguments, compile_error


def read(schema, declared_order=True):
    return EnforceableReader(schema, declared_order=declared_order).read()


def test_properties_come_as_the_declaration_shows_them_at_every_level():
    inner = {"type": "object", "properties": {"z": {}, "a": {}, "m": {}}, "required": ["m"]}
    schema = {"type": "object", "properties": {"b": {"items": inner}, "c": {}, "a": {}}, "required": ["c"]}
    made = read(schema).schema
    assert list(made["properties"]) == ["c", "a", "b"]
    assert list(made["properties"]["b"]["items"]["properties"]) == ["m", "a", "z"]
    assert list(read(schema, declared_order=False).schema["properties"]) == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("schema", "path", "keyword"),
    [
        ({"properties": {"a": {"not": {"const": 1}}}}, ".properties.a", "not"),
        ({"type": "array", "uniqueItems": True}, "", "uniqueItems"),
        ({"anyOf": [{}, {"contains": {"const": 1}}]}, ".anyOf[1]", "contains"),
        ({"if": {}, "then": {"required": ["a"]}}, "", "if"),
        ({"dependentRequired": {"a": ["b"]}}, "", "dependentRequired"),
        ({"propertyNames": {"pattern": "^a"}}, "", "propertyNames"),
        ({"items": {"type": "string", "pattern": "^(?!a)b"}}, ".items", "pattern"),
        ({"type": "string", "pattern": r"(a)\1"}, "", "pattern"),
        ({"type": "string", "format": "regex"}, "", "format"),
        ({"type": "object", "minProperties": 2}, "", "minProperties"),
        ({"$defs": {"d": {"unevaluatedProperties": False}}}, ".$defs.d", "unevaluatedProperties"),
    ],
)
def test_what_no_grammar_enforces_is_found_where_it_stands_and_left_out(schema, path, keyword):
    made = read(schema)
    assert [(finding.path, finding.keyword) for finding in made.findings] == [(path, keyword)]
    assert compile_error(made.schema) == ""


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "uniqueItems": False},
        {"title": "t", "description": "d", "default": 1, "examples": [1], "nullable": True, "x-mine": {}},
        {"type": "integer", "format": "int32"},
        {"type": "object", "required": ["a", "b"], "minProperties": 2},
        {"oneOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "array", "items": [{"type": "string"}], "additionalItems": False},
        {"type": "number", "minimum": 3, "exclusiveMinimum": True},
    ],
)
def test_what_says_nothing_more_is_no_finding(schema):
    made = read(schema)
    assert made.findings == ()
    assert compile_error(made.schema) == ""


def test_properties_that_are_not_declared_are_not_generated_unless_the_schema_speaks_of_them():
    closed = read({"type": "object", "properties": {"a": {}}, "required": ["b"]}).schema
    assert closed["additionalProperties"] is False
    assert list(closed["properties"]) == ["b", "a"]
    for schema in (
        {"type": "object"},
        {"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}},
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "$ref": "#/$defs/d", "$defs": {"d": {"properties": {"b": {}}}}},
    ):
        assert read(schema).schema.get("additionalProperties") is not False


def test_a_callers_settings_for_the_library_are_dropped():
    assert "x-guidance" not in read({"x-guidance": {"lenient": True}, "type": "string"}).schema


def test_whole_numbers_fit_64_bits_unless_they_are_bounded_already():
    made = read({"type": ["integer", "null"], "minimum": 5}).schema
    assert made["minimum"] == 5
    assert 2**62 < made["maximum"] < 2**63
    assert "minimum" not in read({"type": "integer", "enum": [1]}).schema


def test_anchors_and_ids_become_pointers():
    schema = {
        "$id": "https://example.org/root",
        "$defs": {"a": {"$anchor": "here", "type": "string"}, "b": {"$id": "other", "type": "integer"}},
        "properties": {
            "x": {"$ref": "#here"},
            "y": {"$ref": "other"},
            "z": {"$ref": "https://example.org/root"},
        },
    }
    made = read(schema).schema
    assert [made["properties"][name]["$ref"] for name in "xyz"] == ["#/$defs/a", "#/$defs/b", "#"]
    assert compile_error(made) == ""


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1/schema"},
        {"$ref": "#/$defs/none"},
        {"$ref": 5},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_by_its_path(schema):
    with pytest.raises(InvalidRequest, match=r"\.\$ref: "):
        read(schema)


def test_a_format_beside_a_pattern_counts_with_it():
    made = read({"type": "string", "pattern": "^2024", "format": "date"}).schema
    assert json.dumps(made).count("pattern") == 2
    assert compile_error(made) == ""


def test_arguments_are_an_object():
    assert as_arguments(None, "p") == {"type": "object", "properties": {}}
    assert as_arguments({"anyOf": []}, "p")["type"] == "object"
    assert as_arguments({"type": ["object", "null"]}, "p")["type"] == "object"
    for schema in ({"type": "string"}, [], True):
        with pytest.raises(InvalidRequest):
            as_arguments(schema, "p")
