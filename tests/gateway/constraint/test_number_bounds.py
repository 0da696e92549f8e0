"""Numbers that the grammar of a schema lets through, digit by digit."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from llguidance import LLMatcher, LLTokenizer

from services.common.grammar_limits import WorkMeter
from services.gateway.constraint.enforceable import EnforceableReader

BYTES = LLTokenizer("byte")
CANDIDATES = [
    f"{sign}{whole}{part}"
    for sign in ("", "-")
    for whole in (0, 1, 2, 3, 9, 10, 99, 100)
    for part in ("", ".0", ".001", ".1", ".25", ".4", ".5", ".6", ".9", ".999")
]
HOLDS = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
}


def matcher(schema):
    made = EnforceableReader(schema, WorkMeter(60.0), declared_order=True).read()
    assert not made.findings
    return LLMatcher(BYTES, LLMatcher.grammar_from_json_schema(json.dumps(made.schema)))


def accepts(grammar, text):
    probe, tokens = grammar.deep_copy(), BYTES.tokenize_str(text)
    return probe.try_consume_tokens(tokens) == len(tokens) and probe.is_accepting()


@pytest.mark.parametrize("kind", [{"type": "number"}, {"type": ["number", "null"]}, {}], ids=str)
@pytest.mark.parametrize(
    "bounds",
    [
        {"exclusiveMinimum": 0, "maximum": 0.5},
        {"exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
        {"exclusiveMinimum": 2, "maximum": 2.5},
        {"exclusiveMinimum": 99, "exclusiveMaximum": 99.5},
        {"minimum": -1.5, "exclusiveMaximum": -1},
        {"exclusiveMinimum": -0.5, "exclusiveMaximum": 0},
        {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
        {"exclusiveMinimum": 0.0, "minimum": 0, "maximum": 0.25},
        {"exclusiveMinimum": 0},
        {"exclusiveMaximum": 100, "exclusiveMinimum": 99.9},
    ],
    ids=str,
)
def test_an_excluded_whole_number_is_not_generated_and_its_neighbours_are(bounds, kind):
    grammar = matcher({**kind, **bounds})
    for text in CANDIDATES:
        value = Decimal(text)
        if accepts(grammar, text):
            assert all(HOLDS[key](value, Decimal(str(bound))) for key, bound in bounds.items()), text
    middle = (Decimal(str(max(bounds.values()))) + Decimal(str(min(bounds.values())))) / 2
    assert accepts(grammar, str(middle)) or len(bounds) == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [{"type": "number", "exclusiveMinimum": 0}, {"maximum": 0.5}]},
        {"$ref": "#/$defs/positive", "maximum": 0.5, "$defs": {"positive": {"exclusiveMinimum": 0}}},
    ],
    ids=str,
)
def test_neither_is_one_whose_other_bound_is_in_another_schema(schema):
    grammar = matcher(schema)
    assert [text for text in ("0", "-0", "0.0", "0.25", "0.6") if accepts(grammar, text)] == ["0.25"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3},
        {"type": ["integer", "null"], "exclusiveMinimum": 0, "exclusiveMaximum": 3},
        {"allOf": [{"type": "integer"}, {"exclusiveMinimum": 0, "exclusiveMaximum": 3}]},
    ],
    ids=str,
)
def test_whole_numbers_between_excluded_ones_are_all_generated(schema):
    grammar = matcher(schema)
    assert [n for n in range(-2, 6) if accepts(grammar, str(n))] == [1, 2]


@pytest.mark.parametrize("large", [10**7, 123456789, 10**12, 2**52 + 1, 2**53, 10**18])
def test_large_numbers_are_excluded_too(large):
    grammar = matcher({"type": "number", "exclusiveMinimum": large, "maximum": 4 * large})
    assert not accepts(grammar, str(large))
    assert accepts(grammar, str(large * 2))


def test_a_range_narrower_than_the_step_keeps_its_middle():
    grammar = matcher({"type": "number", "exclusiveMinimum": 0, "maximum": 1e-10})
    assert [text for text in ("0", "0.0000000001", "0.00000000007") if accepts(grammar, text)] == [
        "0.0000000001",
        "0.00000000007",
    ]
