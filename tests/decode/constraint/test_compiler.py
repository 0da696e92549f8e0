"""Grammars to matchers: cached, bounded."""

from __future__ import annotations

import json
import time

import pytest

from services.common.errors import InvalidRequest
from services.common.grammar_limits import Effort
from services.decode.constraint import compiler as module
from services.decode.constraint.compiler import GrammarCompiler


def test_a_grammar_seen_lately_is_not_compiled_again(compiler):
    first = compiler.compile('start: "once"')
    assert compiler.compile('start: "once"') is first


def test_compiling_rests_between_its_pieces_where_it_is_to_make_room(compiler, monkeypatch):
    rests = []

    class Counted:
        def __init__(self, wanted):
            self._wanted = wanted

        def take(self):
            rests.append(self._wanted())

    monkeypatch.setattr(module, "Rests", Counted)
    fields = {f"field_{number}": {"type": "string", "pattern": "^[a-z]{1,40}$"} for number in range(10)}
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    GrammarCompiler(compiler.vocabulary, lambda: True).compile(f"start: %json {json.dumps(schema)}")
    assert len(rests) > 10
    assert all(rests)


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


def test_a_lexeme_that_leaves_no_choice_for_a_million_bytes_is_refused_before_it_is_walked(compiler):
    with pytest.raises(InvalidRequest, match="too many states"):
        compiler.compile("start: /(a{1000}){1000}/")


@pytest.mark.parametrize(
    "grammar",
    [
        'start: x{1000}\nx: y{1000}\ny: "a"{1000}',
        "start: r0\n" + "".join(f"r{i}: r{i + 1} r{i + 1}\n" for i in range(20)) + 'r20: "a"\n',
    ],
)
def test_rules_that_leave_no_choice_for_a_million_bytes_are_walked_in_parts(compiler, grammar):
    matcher = compiler.compile(grammar).matcher.deep_copy()
    assert 1_000 < len(matcher.compute_ff_tokens()) < 50_000


@pytest.mark.parametrize("grammar", [r"start: /[^\s\S]/", "start: start", "start: a\na: b\nb: a"])
def test_what_allows_nothing_is_the_callers_mistake(compiler, grammar):
    with pytest.raises(InvalidRequest, match="nothing that it allows can follow"):
        compiler.compile(grammar)


def test_quick_effort_refuses_what_whole_effort_takes(compiler):
    rules = "".join(f"r{i}: (r{i + 1} | /[a-z]{{{i}}}{i}[^x]/) r{i + 1}\n" for i in range(14))
    grammar = f"start: r0\n{rules}r14: " + " | ".join(f"/[a-z{i}]*y{i}/" for i in range(1_500))
    with pytest.raises(InvalidRequest):
        compiler.compile(grammar, Effort.QUICK)
    assert compiler.compile(grammar, Effort.WHOLE)


def test_a_grammar_whose_lexer_is_worn_is_compiled_anew(compiler):
    first = compiler.compile('start: "worn"')
    first.wear.spent_s = first.lasts_s + 1
    assert compiler.compile('start: "worn"') is not first


def test_a_grammar_whose_lexer_is_full_is_compiled_anew(compiler, tokenizer):
    grammar = "start: /[bc]{1,30000}/"
    first = compiler.compile(grammar)
    assert compiler.renew(grammar) is first
    fill(first, tokenizer)
    assert compiler.renew(grammar) is not first


def test_a_list_of_grammars_that_is_none_is_the_callers_mistake(compiler):
    for text in ("{", "{}", '{"grammars": []}', '{"grammars": [1]}', '{"grammars": ' + "[" * 10_000):
        with pytest.raises(InvalidRequest, match="not a list of grammars"):
            compiler.compile(text)


def fill(compiled, tokenizer):
    """Has a copy meet more states than the lexer may have."""
    [letter] = tokenizer.encode("b")
    filler = compiled.matcher.deep_copy()
    while filler.consume_tokens([letter] * 500):
        pass
