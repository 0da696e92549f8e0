"""Compiles a grammar's text to a matcher in its start state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from llguidance import LLMatcher

from services.common.bounded_cache import BoundedCache
from services.common.errors import InvalidRequest
from services.common.fairness.cores import Rests
from services.common.grammar_limits import (
    Effort,
    WorkMeter,
    first_error,
    grammar_limits,
    limited_matcher,
    refusal,
)
from services.decode.constraint.closing import ClosingPlanner
from services.decode.constraint.vocabulary import GrammarVocabulary

MAX_CACHED = 64
MAX_CACHED_BYTES = 128 << 20
# Measured memory of a compiled grammar, rounded up: (constant part, bytes per byte of text), for grammars
# compiled with QUICK and with WHOLE effort.
_QUICK_BYTES = (2 << 20, 100)
_WHOLE_BYTES = (10 << 20, 25)
# A lexer keeps every state it has met, and all users of a grammar share it. So the grammar is compiled again
# after this many seconds of work or this multiple of the work of compiling, whichever is more.
_WORN_S = 1.0
_WORN_COMPILATIONS = 10


@dataclass
class Wear:
    """Seconds of work that all matchers of one compiled grammar have spent."""

    spent_s: float = 0.0


@dataclass(frozen=True)
class CompiledGrammar:
    """A compiled grammar. `matcher` is shared: copy it before it takes a token.

    All copies share its lexer's states and `wear`. `way_out`: tokens from the start state to an end, None if
    unknown. `lasts_s`: seconds of work after which the grammar is compiled again.
    """

    matcher: LLMatcher
    way_out: tuple[int, ...] | None
    lasts_s: float = _WORN_S
    wear: Wear = field(default_factory=Wear)


class GrammarCompiler:
    """Compiles grammars within bounds of work and memory; caches the last used ones by text. Any thread."""

    def __init__(self, vocabulary: GrammarVocabulary, makes_room: Callable[[], bool] = lambda: False) -> None:
        """`makes_room`: whether compiling rests where others want the core, see Rests."""
        self.vocabulary = vocabulary
        self._makes_room = makes_room
        self.planner = ClosingPlanner(vocabulary)
        self._marks = vocabulary.markers.apart
        self._cache: BoundedCache[str, CompiledGrammar] = BoundedCache(MAX_CACHED, MAX_CACHED_BYTES)

    def cached(self, grammar: str) -> CompiledGrammar | None:
        """Returns a cached grammar that is not worn out, or None. Takes microseconds."""
        kept = self._cache.get(grammar)
        if kept is None or kept.wear.spent_s <= kept.lasts_s:
            return kept
        self._cache.drop(grammar)
        return None

    def compile(self, grammar: str, effort: Effort = Effort.WHOLE) -> CompiledGrammar:
        """Returns the cached or newly compiled grammar.

        Raises InvalidRequest if the text is not a grammar, allows nothing, or needs more than `effort`.
        """
        if (kept := self.cached(grammar)) is not None:
            return kept
        meter = WorkMeter(effort.value, effort, Rests(self._makes_room).take)
        limits = grammar_limits(effort)
        matcher = limited_matcher(self.vocabulary.tokenizer, grammar, self._marks, limits)
        if matcher.is_error():
            raise InvalidRequest(f"the grammar does not compile: {refusal(matcher)}", "constraint.grammar")
        _check(matcher)
        meter.rest()
        way = self.planner.way_out(matcher, meter=meter)
        _check(matcher)  # finding the way out may have filled the lexer
        lasts_s = max(_WORN_S, _WORN_COMPILATIONS * meter.spent_s)
        compiled = CompiledGrammar(matcher, None if way is None else tuple(way), lasts_s)
        least, each = _QUICK_BYTES if effort is Effort.QUICK else _WHOLE_BYTES
        self._cache.keep(grammar, compiled, least + each * len(grammar))
        return compiled

    def renew(self, grammar: str) -> CompiledGrammar:
        """Compiles a grammar again if its cached lexer is full. Raises as `compile` does."""
        kept = self._cache.get(grammar)
        if kept is not None and first_error(kept.matcher):
            self._cache.drop(grammar)
        return self.compile(grammar)


def _check(matcher: LLMatcher) -> None:
    if error := first_error(matcher):
        raise InvalidRequest(f"the grammar does not compile: {error}", "constraint.grammar")
