"""Grammars compiled in lanes."""

from __future__ import annotations

import queue
import threading
from functools import partial

import pytest

from services.common.errors import InvalidRequest, Overloaded
from services.common.grammar_limits import Effort
from services.decode.constraint import maker as module
from services.decode.constraint.maker import MAX_LARGE, ConstraintMaker
from services.decode.constraint.rules import ConstraintRules
from services.decode.constraint.token_constraint import TokenConstraint
from services.families.kimi.family import KIMI

LARGE = 'start: "large"'


class Gate:
    """A compiler to which LARGE is too much for QUICK effort, and which compiles it when it is told to."""

    def __init__(self, compiler) -> None:
        self._compiler = compiler
        self.opened = threading.Event()
        self.vocabulary, self.planner = compiler.vocabulary, compiler.planner

    def cached(self, grammar):
        return None if grammar == LARGE else self._compiler.cached(grammar)

    def compile(self, grammar, effort):
        if grammar == LARGE:
            if effort is Effort.QUICK:
                raise InvalidRequest("too much")
            assert self.opened.wait(30)
        return self._compiler.compile(grammar, effort)


@pytest.fixture
def made(nano_dir, compiler, monkeypatch):
    """Asks for a constraint; `.heard` gets (name, what came), `.gate` is the compiler."""
    gate = Gate(compiler)
    monkeypatch.setattr(module, "GrammarVocabulary", lambda directory, size: None)
    monkeypatch.setattr(module, "GrammarCompiler", lambda vocabulary, makes_room: gate)
    maker = ConstraintMaker(partial(KIMI.read_grammar_tokens, nano_dir), 2304)

    def ask(name, grammar, tenant=0):
        rules = ConstraintRules(grammar, False, False, False)
        maker.make(name, rules, 50, [], lambda: True, lambda came: ask.heard.put((name, came)), (tenant, 1))

    ask.heard, ask.gate = queue.Queue(), gate
    yield ask
    gate.opened.set()
    maker.close()


def test_large_grammars_delay_no_others(made):
    for number in range(8):
        made(f"large {number}", LARGE)
    for grammar in ('start: "small"', 'start: %json {"type": "object"}', 'start: "small"'):
        made("small", grammar)
        name, came = made.heard.get(timeout=30)
        assert (name, type(came)) == ("small", TokenConstraint)
    made.gate.opened.set()
    assert {made.heard.get(timeout=30)[0] for _ in range(8)} == {f"large {number}" for number in range(8)}


def test_of_large_grammars_only_so_many_wait(made):
    for number in range(MAX_LARGE + 1):
        made(f"large {number}", LARGE)
    _, came = made.heard.get(timeout=30)
    assert isinstance(came, Overloaded)
    made.gate.opened.set()
    assert len([made.heard.get(timeout=30) for _ in range(MAX_LARGE)]) == MAX_LARGE
    made("large again", LARGE)
    assert isinstance(made.heard.get(timeout=30)[1], TokenConstraint)


def test_a_tenant_whose_large_grammars_wait_leaves_places_to_others(made):
    for number in range(MAX_LARGE):
        made(f"crowd {number}", LARGE, tenant=1)
    refused = [made.heard.get(timeout=30)[1] for _ in range(MAX_LARGE // 4)]
    assert {type(came) for came in refused} == {Overloaded}
    made("other", LARGE, tenant=2)
    made.gate.opened.set()
    heard = dict(made.heard.get(timeout=30) for _ in range(MAX_LARGE - MAX_LARGE // 4 + 1))
    assert isinstance(heard["other"], TokenConstraint)


def test_what_does_not_compile_is_said_once_the_whole_effort_was_made(made):
    made("wrong", "nonsense")
    _, came = made.heard.get(timeout=30)
    assert isinstance(came, InvalidRequest)
