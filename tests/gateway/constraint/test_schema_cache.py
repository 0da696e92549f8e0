"""Schemas made ready and kept."""

from __future__ import annotations

import contextlib
import time

import pytest

from services.common.errors import InvalidRequest
from services.common.grammar_limits import Effort, WorkMeter
from services.gateway.constraint import schema_cache as module
from services.gateway.constraint.call_checks import CallChecks
from services.gateway.constraint.schema_cache import SchemaCache
from tests.support.waiting import scaled


def ready(schema, cache=None):
    return (cache or SchemaCache()).ready(schema, "p", WorkMeter(60.0), declared_order=True)


def test_a_schema_seen_lately_is_not_read_again():
    cache = SchemaCache()
    assert ready({"type": "object"}, cache) is ready({"type": "object"}, cache)
    assert ready({"type": "object"}, cache) is not ready({"type": "object", "title": "t"}, cache)


def test_what_was_not_used_for_longest_is_let_go(monkeypatch):
    monkeypatch.setattr(module, "MAX_CACHED", 2)
    cache = SchemaCache()
    first = ready({"const": 1}, cache)
    second = ready({"const": 2}, cache)
    assert ready({"const": 1}, cache) is first
    ready({"const": 3}, cache)
    assert ready({"const": 1}, cache) is first
    assert ready({"const": 2}, cache) is not second


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "dict"}, "p.type"),
        ({"properties": {"a": {"minLength": -1}}}, "p.properties.a.minLength"),
        ({"properties": {"a": {"$ref": "http://x.example/"}}}, "p.properties.a.$ref"),
    ],
)
def test_what_is_no_schema_is_refused_by_its_place(schema, path):
    with pytest.raises(InvalidRequest) as refusal:
        ready(schema)
    assert refusal.value.param == path


def test_only_what_a_grammar_cannot_say_needs_a_validator():
    assert ready({"type": "object", "properties": {"a": {"type": "string"}}}).validator is None
    assert ready({"type": "object", "uniqueItems": True}).validator is not None


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"),
        (
            {"type": "object", "patternProperties": {"^a": {"const": 1}, "b$": {"const": 2}}},
            "patternProperties",
        ),
    ],
)
def test_what_the_library_refuses_is_a_finding_and_something_wider_is_enforced(schema, keyword):
    made = ready(schema)
    assert [finding.keyword for finding in made.findings] == [keyword]
    assert module.compile_error(made.schema) == ""


def test_a_finished_call_is_checked_with_the_whole_schema():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "uniqueItems": True}},
        "required": ["a"],
    }
    checks = CallChecks({"f": ready(schema).validator})
    assert checks.complaint("f", '{"a": [1, 2]}') == ""
    assert checks.complaint("g", "anything") == ""
    assert checks.complaint("f", '{"a": [1, 1]}').startswith("arguments.a:")
    assert "JSON" in checks.complaint("f", '{"a": ')


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"const": 2**256 - 1}, 2**256 - 1, 2**256),
        ({"enum": [2**64, 1]}, 2**64, 2),
        ({"minimum": 2**200}, 2**200, 5),
        ({"multipleOf": 2**100}, 2**101, 2**101 + 1),
        ({"maximum": 2**256 - 1, "uniqueItems": True}, 2**256 - 1, 2**256),
    ],
)
def test_whole_numbers_beyond_64_bits_are_checked_exactly(schema, good, bad):
    checks = CallChecks({"f": ready({"type": "object", "properties": {"a": schema}}).validator})
    assert checks.complaint("f", f'{{"a": {good}}}') == ""
    assert checks.complaint("f", f'{{"a": {bad}}}').startswith("arguments.a:")


@pytest.mark.parametrize("reference", ["#/$defs/a b", "#/$defs/a%20b"])
def test_a_validator_follows_references_with_spaces(reference):
    schema = {"type": "object", "properties": {"x": {"$ref": reference}}, "uniqueItems": True}
    checks = CallChecks({"f": ready({**schema, "$defs": {"a b": {"type": "string"}}}).validator})
    assert checks.complaint("f", '{"x": "y"}') == ""
    assert checks.complaint("f", '{"x": 1}')


def test_a_property_named_one_of_is_no_keyword_where_a_schema_is_widened():
    schema = {"properties": {"oneOf": {"oneOf": [{"type": "number"}, {"type": "integer"}]}}}
    made = ready(schema).schema
    assert "anyOf" in str(made["properties"]["oneOf"])


def test_arguments_nested_too_deeply_are_a_wrong_call():
    checks = CallChecks({"f": ready({"type": "object", "uniqueItems": True}).validator})
    for depth in (1_000, 100_000):
        assert checks.complaint("f", '{"a": ' + "[" * depth + "]" * depth + "}")


def test_patterns_that_compile_to_much_are_refused_before_they_are_compiled():
    """An unbounded one takes half a second and 10 MB, and nothing else runs meanwhile."""
    letters = {f"p{i}": {"type": "string", "pattern": rf"^\w{{100}}(?!x{i})$"} for i in range(100)}
    with pytest.raises(InvalidRequest, match="may compile to 41943 bytes"):
        ready({"type": "object", "properties": letters})
    one = ready({"type": "object", "properties": {"a": {"type": "string", "pattern": r"^\w{1,9}(?!x)$"}}})
    assert one.validator is not None


def test_a_schema_that_takes_too_much_work_is_refused_by_its_field():
    patterns = {f"p{i}": {"type": "string", "pattern": f"^a{i}"} for i in range(20)}
    with pytest.raises(InvalidRequest, match="of work") as refusal:
        SchemaCache().ready({"properties": patterns}, "p", WorkMeter(0.0), declared_order=True)
    assert refusal.value.param == "p"


def test_what_quick_effort_cannot_tell_is_no_finding():
    long = "".join(f"[a-{letter}]{letter}" for letter in "bcdefghijklmnopqrst" * 5)
    heavy = {"properties": {f"p{i}": {"type": "string", "pattern": f"^{i}{long}$"} for i in range(400)}}
    with pytest.raises(InvalidRequest):
        SchemaCache().ready(heavy, "p", WorkMeter(60.0, Effort.QUICK), declared_order=True)
    assert ready(heavy).findings == ()


def test_the_shelf_counts_what_a_schema_takes_and_not_its_text_alone(monkeypatch):
    monkeypatch.setattr(module, "MAX_CACHED_BYTES", 3_000)
    cache = SchemaCache()
    first = ready({"const": "x" * 40}, cache)
    assert ready({"const": "x" * 40}, cache) is first
    ready({"const": "y" * 40}, cache)
    assert ready({"const": "x" * 40}, cache) is not first


def test_a_pattern_that_backtracks_for_ever_is_given_up():
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": r"^(?!x)(a|aa)+\1$"}}}
    checks = CallChecks({"f": ready(schema).validator})
    started = time.monotonic()
    assert checks.complaint("f", '{"a": "' + "a" * 60 + '!"}')
    assert time.monotonic() - started < scaled(1)


def test_hostile_schemas_are_read_or_refused_in_time():
    doubling = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(25)}
    products = [
        {"anyOf": [{"properties": {f"a{i}_{j}": {"const": j}}, "required": [f"a{i}_{j}"]} for j in range(4)]}
        for i in range(8)
    ]
    wide = {f"p{i}": {"type": "object", "properties": {f"q{j}": {} for j in range(9)}} for i in range(1000)}
    for schema in (
        {"$defs": doubling | {"d25": {"type": "integer"}}, "$ref": "#/$defs/d0"},
        {"type": "object", "allOf": products},
        {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"},
        {"type": "object", "properties": wide},
        {"enum": [f"value {i}" for i in range(10_000)]},
    ):
        started = time.thread_time()
        with contextlib.suppress(InvalidRequest):
            ready(schema)
        assert time.thread_time() - started < 5
