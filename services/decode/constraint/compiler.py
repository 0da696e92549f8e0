"""From a grammar's text to a matcher at its beginning."""

from __future__ import annotations

from dataclasses import dataclass, field

from llguidance import LLMatcher

from services.common.bounded_cache import BoundedCache
from services.common.errors import InvalidRequest
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
# Memory of a compiled grammar, as measured, rounded up: what every one has, and for each byte of its text;
# of one that is compiled with QUICK effort, and of any other.
_QUICK_BYTES = (2 << 20, 100)
_WHOLE_BYTES = (10 << 20, 25)
# A lexer keeps every state that it has met, for all who use the grammar: a new one is compiled after so many
# seconds of work, or so many times the work of compiling.
_WORN_S = 1.0
_WORN_COMPILATIONS = 10


@dataclass
class Wear:
    """Seconds of work of all matchers of one compiled grammar."""

    spent_s: float = 0.0


@dataclass(frozen=True)
class CompiledGrammar:
    """`matcher` is shared: copy it before it takes a token; all copies share its lexer's states, and `wear`.

    `way_out`: from its beginning; None: unknown. `lasts_s`: work after which another one is compiled.
    """

    matcher: LLMatcher
    way_out: tuple[int, ...] | None
    lasts_s: float = _WORN_S
    wear: Wear = field(default_factory=Wear)


class GrammarCompiler:
    """Compiles within bounds of work and memory, and keeps what was used last, by content. Any thread."""

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        self.vocabulary = vocabulary
        self.planner = ClosingPlanner(vocabulary)
        special = vocabulary.special
        self._marks = (special.im_middle, special.end_think)
        self._cache: BoundedCache[str, CompiledGrammar] = BoundedCache(MAX_CACHED, MAX_CACHED_BYTES)

    def cached(self, grammar: str) -> CompiledGrammar | None:
        """One that was seen lately and is good as new; in microseconds."""
        kept = self._cache.get(grammar)
        if kept is None or kept.wear.spent_s <= kept.lasts_s:
            return kept
        self._cache.drop(grammar)
        return None

    def compile(self, grammar: str, effort: Effort = Effort.WHOLE) -> CompiledGrammar:
        """Raises InvalidRequest where it is no grammar, allows nothing, or takes more than the effort."""
        if (kept := self.cached(grammar)) is not None:
            return kept
        meter = WorkMeter(effort.value)
        limits = grammar_limits(effort)
        matcher = limited_matcher(self.vocabulary.tokenizer, grammar, self._marks, limits)
        if matcher.is_error():
            raise InvalidRequest(f"the grammar does not compile: {refusal(matcher)}", "constraint.grammar")
        _check(matcher)
        way = self.planner.way_out(matcher, meter=meter)
        _check(matcher)  # the way may have filled the lexer
        lasts_s = max(_WORN_S, _WORN_COMPILATIONS * meter.spent_s)
        compiled = CompiledGrammar(matcher, None if way is None else tuple(way), lasts_s)
        least, each = _QUICK_BYTES if effort is Effort.QUICK else _WHOLE_BYTES
        self._cache.keep(grammar, compiled, least + each * len(grammar))
        return compiled

    def renew(self, grammar: str) -> CompiledGrammar:
        """Compiles a grammar whose lexer is full anew. Raises as `compile`."""
        kept = self._cache.get(grammar)
        if kept is not None and first_error(kept.matcher):
            self._cache.drop(grammar)
        return self.compile(grammar)


def _check(matcher: LLMatcher) -> None:
    if error := first_error(matcher):
        raise InvalidRequest(f"the grammar does not compile: {error}", "constraint.grammar")
