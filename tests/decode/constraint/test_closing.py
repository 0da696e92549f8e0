"""The way out of a grammar."""

from __future__ import annotations

import json

import pytest

from services.families.kimi.special import SpecialTokens

RECURSIVE = {
    "type": "object",
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
    "properties": {"n": {"$ref": "#/$defs/node"}},
    "required": ["n"],
}


def section_grammar(marks: SpecialTokens, schema: dict, calls: int = 4) -> str:
    """Calls of `f`, numbered from 0."""
    indices = " | ".join(f'"{number}" %if eq(_, {number})' for number in range(calls))
    return (
        f"start: <[{marks.tool_calls_section_begin}]> calls::0 <[{marks.tool_calls_section_end}]>\n"
        f"calls::_ : call::_ | call::_ calls::incr(_) %if lt(_, {calls - 1})\n"
        f'call::_ : <[{marks.tool_call_begin}]> "functions.f:" index::_ <[{marks.tool_call_argument_begin}]>'
        f" arguments <[{marks.tool_call_end}]>\n"
        f"index::_ : {indices}\n"
        f"arguments: %json {json.dumps({'additionalProperties': False, **schema})}\n"
    )


def way_from(compiler, tokenizer, grammar: str, said: str = "") -> str | None:
    matcher = compiler.compile(grammar).matcher.deep_copy()
    assert matcher.consume_tokens(tokenizer.encode(said, parse_special=True))
    way = compiler.planner.way_out(matcher)
    if way is None:
        return None
    assert compiler.planner.leads_out(matcher, way)
    return tokenizer.decode(way)


@pytest.mark.parametrize(
    ("schema", "said", "way"),
    [
        ({"type": "object"}, "", "{}"),
        ({"type": "object"}, '{"a', '":""}'),
        ({"type": "string"}, '"he says } and ]', '"'),
        ({"type": "array", "items": {"type": "string"}}, '["a", "b', '"]'),
        ({"$defs": RECURSIVE["$defs"], "anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}, "n", "ull"),
        (RECURSIVE, '{"n": {"next": {"next": {', "}}}}"),
        ({"enum": ["celsius", "kelvin"]}, '"k', 'elvin"'),
    ],
)
def test_what_is_open_is_closed(compiler, tokenizer, schema, said, way):
    grammar = f"start: %json {json.dumps(schema)}"
    found = way_from(compiler, tokenizer, grammar, said)
    assert found is not None
    json.loads(said + found)
    assert found.replace(" ", "") == way


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": 1000, "multipleOf": 7},
        {"type": "number", "exclusiveMinimum": 12.5},
        {"type": "string", "minLength": 20},
        {"type": "string", "pattern": r"^[\w.]+@[\w.]+$"},
        {"type": "string", "format": "uuid"},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 3},
    ],
)
def test_what_has_to_be_said_first_is_said(compiler, tokenizer, schema):
    found = way_from(compiler, tokenizer, f"start: %json {json.dumps(schema)}")
    assert found is not None
    json.loads(found)


def test_a_section_ends_with_the_call_that_is_open(compiler, tokenizer):
    grammar = section_grammar(tokenizer.special, {"type": "object", "properties": {"q": {"type": "string"}}})
    said = '<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"q": "x'
    assert way_from(compiler, tokenizer, grammar, said) == '"}<|tool_call_end|><|tool_calls_section_end|>'


def test_where_every_way_is_too_long_none_is_found(compiler):
    matcher = compiler.compile('start: %json {"type": "string", "minLength": 400}').matcher
    assert compiler.planner.way_out(matcher, 100) is None


def test_the_matcher_stays_where_it_is(compiler, tokenizer):
    matcher = compiler.compile('start: "ab"').matcher.deep_copy()
    before = matcher.compute_bitmask()
    compiler.planner.way_out(matcher)
    compiler.planner.leads_out(matcher, tokenizer.encode("ab"))
    assert matcher.compute_bitmask() == before
