"""Grammars to matchers: cached, bounded."""

from __future__ import annotations

import json
import time

import pytest

from services.common.errors import InvalidRequest
from services.decode.constraint import compiler as module
from services.decode.constraint.compiler import GrammarCompiler


def test_a_grammar_seen_lately_is_not_compiled_again(compiler):
    first = compiler.compile('start: "once"')
    assert compiler.compile('start: "once"') is first


def test_the_cache_lets_go_of_what_was_not_used_for_longest(compiler, monkeypatch):
    monkeypatch.setattr(module, "MAX_CACHED", 2)
    small = GrammarCompiler(compiler.vocabulary)
    first, second = small.compile('start: "a"'), small.compile('start: "b"')
    assert small.compile('start: "a"') is first
    small.compile('start: "c"')
    assert small.compile('start: "a"') is first
    assert small.compile('start: "b"') is not second


def test_the_cache_is_bounded_in_bytes(compiler, monkeypatch):
    monkeypatch.setattr(module, "MAX_CACHED_BYTES", 30)
    small = GrammarCompiler(compiler.vocabulary)
    first = small.compile('start: "0123456789"')
    small.compile('start: "9876543210"')
    assert small.compile('start: "0123456789"') is not first


@pytest.mark.parametrize("grammar", ["start: nobody", "nonsense", 'start: %json {"type": "dict"}'])
def test_what_does_not_compile_is_the_callers_mistake(compiler, grammar):
    with pytest.raises(InvalidRequest, match="does not compile"):
        compiler.compile(grammar)


def test_a_hostile_grammar_ends_in_time(compiler):
    """Each is quick, or refused, or both."""
    doubling = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(25)}
    products = [
        {"anyOf": [{"properties": {f"a{i}_{j}": {"const": j}}, "required": [f"a{i}_{j}"]} for j in range(4)]}
        for i in range(8)
    ]
    schemas = [
        {"$defs": doubling | {"d25": {"type": "integer"}}, "$ref": "#/$defs/d0"},
        {"type": "object", "allOf": products},
        {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$"},
        {"type": "string", "minLength": 10**6},
    ]
    started = time.monotonic()
    for schema in schemas:
        try:
            compiled = compiler.compile(f"start: %json {json.dumps(schema)}")
        except InvalidRequest:
            continue
        compiled.matcher.deep_copy().compute_bitmask()
    assert time.monotonic() - started < 5
