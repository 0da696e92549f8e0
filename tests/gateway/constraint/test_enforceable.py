"""What of a schema a grammar can say."""

from __future__ import annotations

import json
import time
from urllib.parse import quote

import pytest

from services.common.errors import InvalidRequest
from services.common.grammar_limits import WorkMeter
from services.gateway.constraint.enforceable import EnforceableReader, as_arguments, compile_error
from services.gateway.constraint.references import with_uri_references


def read(schema, declared_order=True):
    return EnforceableReader(schema, WorkMeter(60.0), declared_order=declared_order).read()


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
        (
            {
                "type": "object",
                "additionalProperties": False,
                "patternProperties": {"^a": {}},
                "minProperties": 2,
            },
            "",
            "minProperties",
        ),
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


def one_of(*members, **more):
    return {"type": "array", "items": {"oneOf": list(members)}, **more}


def an_object(*required, **properties):
    made = {name: {"const": value} if value else {} for name, value in properties.items()}
    return {"type": "object", "properties": made, "required": list(required)}


def untyped(schema):
    return {key: value for key, value in schema.items() if key != "type"}


CITY, ZIP = an_object("city", city=None), an_object("zip", zip=None)
DOG, CAT = an_object("kind", kind="dog", age=None), an_object("kind", kind="cat", age=None)
DEFINED = {"$defs": {"dog": DOG, "cat": CAT, "any": an_object(age=None)}}


@pytest.mark.parametrize(
    "schema",
    [
        one_of(CITY, an_object(zip=None)),
        one_of(CITY, an_object("zip", zip=None, city=None)),
        one_of({"const": {"k": 1}}, an_object()),
        one_of(CITY, an_object("city", city=None, zip=None)),
        one_of(an_object(kind="dog"), an_object(kind="cat")),
        one_of({"$ref": "#/$defs/dog"}, {"$ref": "#/$defs/any"}, **DEFINED),
        one_of(an_object("pet", pet=None), {"type": "object", "properties": {"pet": DOG}}),
        one_of(untyped(DOG), untyped(CAT)),
        one_of({"maximum": 5}, {"minimum": 6}),
    ],
    ids=str,
)
def test_one_of_several_schemas_that_may_both_be_valid_is_found(schema):
    assert [(finding.path, finding.keyword) for finding in read(schema).findings] == [(".items", "oneOf")]


@pytest.mark.parametrize(
    "schema",
    [
        one_of(CITY, ZIP),
        one_of(DOG, CAT),
        one_of({"$ref": "#/$defs/dog"}, {"$ref": "#/$defs/cat"}, **DEFINED),
        one_of(CITY, {"type": "string"}, {"type": "null"}),
        one_of(CITY),
        {
            "type": "object",
            "oneOf": [{**CITY, "type": ["object"]}, {"required": ["zip"], "properties": {"zip": {}}}],
        },
        {"type": "object", "oneOf": [untyped(CITY), untyped(ZIP)]},
        {"type": "object", "oneOf": [untyped(DOG), untyped(CAT)]},
        {"type": "integer", "oneOf": [{"maximum": 5}, {"minimum": 6}]},
        {
            "type": "object",
            "oneOf": [{"$ref": "#/$defs/dog"}, {"$ref": "#/$defs/cat"}],
            "$defs": {"dog": untyped(DOG), "cat": untyped(CAT)},
        },
        one_of({**an_object("a", a=None), "additionalProperties": False}, {**an_object("b", b=None)}),
    ],
    ids=str,
)
def test_one_of_several_schemas_that_exclude_each_other_is_no_finding(schema):
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


@pytest.mark.parametrize("name", ["a b", "a%b", "a#b", "ä", "a/b", "a~b", 'a"b'])
@pytest.mark.parametrize("encode", [True, False])
def test_a_pointer_may_be_percent_encoded_or_not(name, encode):
    token = name.replace("~", "~0").replace("/", "~1")
    reference = f"#/$defs/{quote(token) if encode else token}"
    schema = with_uri_references({"$defs": {name: {"type": "string"}}, "$ref": reference})
    if "#" in name and not encode:
        return  # that would begin another fragment
    made = read(schema).schema
    assert compile_error(made) == ""
    assert compile_error({**made, "$defs": {name: {"const": 1, "type": "string"}}}) != ""


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"me": {"$ref": "#"}}, "required": ["me"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"type": "array", "prefixItems": [{}, {"$ref": "#"}], "minItems": 2},
        {"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"oneOf": [{"$ref": "#/$defs/a"}]}}}
        | {"$ref": "#/$defs/a"},
        {"properties": {"x": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"allOf": [{"$ref": "#/$defs/n"}]}}},
    ],
)
def test_what_would_have_to_contain_itself_is_refused_by_its_path(schema):
    with pytest.raises(InvalidRequest, match="contain itself") as refusal:
        read(schema)
    assert refusal.value.param.endswith(".$ref")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"me": {"$ref": "#"}}},
        {"type": ["object", "null"], "properties": {"me": {"$ref": "#"}}, "required": ["me"]},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": "object", "properties": {"me": {"anyOf": [{"$ref": "#"}, {}]}}, "required": ["me"]},
        {"$defs": {"unused": {"allOf": [{"$ref": "#/$defs/unused"}]}}},
    ],
)
def test_what_may_end_may_contain_itself(schema):
    assert read(schema).findings == ()


def test_a_long_chain_of_references_is_read_in_time():
    links = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}]} for i in range(900)}
    started = time.thread_time()
    read({"$defs": links | {"d900": {"type": "string"}}, "$ref": "#/$defs/d0"})
    assert time.thread_time() - started < 5


def test_a_format_beside_a_pattern_counts_with_it():
    made = read({"type": "string", "pattern": "^2024", "format": "date"}).schema
    assert json.dumps(made).count("pattern") == 2
    assert compile_error(made) == ""


def test_all_of_behind_a_pattern_and_a_format_adds_to_them():
    schema = {"type": ["string", "null"], "pattern": "^2", "format": "date", "allOf": [{"minLength": 1}]}
    made = read(schema).schema
    assert json.dumps(made).count("pattern") == 2
    assert {"minLength": 1} in made["allOf"]
    assert compile_error({**made, "type": "string", "enum": ["2"]}) != ""
    assert compile_error({**made, "type": "string", "enum": ["2024-02-03"]}) == ""
    assert compile_error({**made, "type": "null"}) == ""


@pytest.mark.parametrize("name", ["allOf", "anyOf", "oneOf", "$ref", "enum", "const", "default", "examples"])
def test_a_property_may_have_the_name_of_a_keyword(name):
    inner = {"type": "object", "properties": {"a": {"$anchor": "here", "type": "string"}}}
    made = read({"type": "object", "properties": {name: inner, "b": {"$ref": "#here"}}}).schema
    assert made["additionalProperties"] is False
    assert made["properties"]["b"]["$ref"] == f"#/properties/{name}/properties/a"
    assert compile_error(made) == ""


def test_bounds_that_a_double_does_not_hold_move_inward():
    made = read({"type": "integer", "minimum": 2**53 + 1, "maximum": 2**60 + 255}).schema
    assert made == {"type": "integer", "minimum": 2**53 + 2, "maximum": 2**60}


HUGE = 2**256 - 1


@pytest.mark.parametrize(
    "schema",
    [
        *({"type": kind, bound: value} for kind in ("integer", "number") for bound, value in (
            ("maximum", HUGE), ("minimum", -HUGE), ("exclusiveMaximum", HUGE), ("maximum", 2**63 - 1),
            ("exclusiveMinimum", -(10**300)), ("maximum", 2**64), ("minimum", -(2**63)), ("maximum", 1e308),
            ("minimum", -0.0),
        )),
        {"type": "string", "maxLength": HUGE},
        {"type": "string", "maxLength": 5.0},
        {"type": "array", "maxItems": HUGE},
        {"type": "object", "maxProperties": HUGE},
        {"type": "integer", "default": HUGE, "examples": [HUGE], "x-mine": HUGE},
        {"const": -(2**53)},
        {"enum": [1e300, True, -0.0]},
    ],
)  # fmt: skip
def test_numbers_that_no_answer_reaches_are_enforced_by_what_fits_64_bits(schema):
    made = read(schema)
    assert made.findings == ()
    assert compile_error(made.schema) == ""


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("const", HUGE),
        ("const", -(2**63) + 1),  # the library would end the process
        ("const", 2**53 + 1),  # the library would generate another one
        ("const", {"a": [-HUGE]}),
        ("enum", [1, HUGE]),
        ("minimum", HUGE),
        ("maximum", -(10**300)),
        ("exclusiveMinimum", 1e300),
        ("multipleOf", HUGE),
        ("multipleOf", 1e-300),
        ("minLength", HUGE),
        ("minItems", HUGE),
        ("minProperties", HUGE),
    ],
)
def test_a_number_that_no_grammar_can_enforce_is_found_where_it_stands(keyword, value):
    made = read({"properties": {"a": {keyword: value}, "b": {"type": "string"}}})
    assert [(finding.path, finding.keyword) for finding in made.findings] == [(".properties.a", keyword)]
    assert made.schema["properties"] == {"a": {}, "b": {"type": "string"}}


def test_arguments_are_an_object():
    assert as_arguments(None, "p") == {"type": "object", "properties": {}}
    assert as_arguments({"anyOf": []}, "p")["type"] == "object"
    assert as_arguments({"type": ["object", "null"]}, "p")["type"] == "object"
    for schema in ({"type": "string"}, [], True):
        with pytest.raises(InvalidRequest):
            as_arguments(schema, "p")
