"""From a grammar's text to a matcher at its beginning."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from llguidance import LLMatcher

from services.common.bounded_cache import BoundedCache
from services.common.errors import InvalidRequest
from services.common.grammar_limits import grammar_limits
from services.decode.constraint.closing import ClosingPlanner
from services.decode.constraint.vocabulary import GrammarVocabulary

MAX_CACHED = 32
MAX_CACHED_BYTES = 16 << 20


@dataclass(frozen=True)
class CompiledGrammar:
    """`matcher` is shared: copy it before it takes a token. `way_out`: from its beginning; None: unknown."""

    matcher: LLMatcher
    way_out: tuple[int, ...] | None


class GrammarCompiler:
    """Compiles within bounds of time and memory, and keeps what was used last, by content. Any thread."""

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        self.vocabulary = vocabulary
        self.planner = ClosingPlanner(vocabulary)
        self._limits = grammar_limits()
        self._cache: BoundedCache[bytes, CompiledGrammar] = BoundedCache(MAX_CACHED, MAX_CACHED_BYTES)

    def compile(self, grammar: str) -> CompiledGrammar:
        """Takes microseconds for a grammar that was seen lately, at worst seconds for another.

        Raises InvalidRequest where it is no grammar, or beyond the bounds.
        """
        text = grammar.encode()
        key = hashlib.sha256(text).digest()
        if (cached := self._cache.get(key)) is not None:
            return cached
        matcher = LLMatcher(self.vocabulary.tokenizer, grammar, log_level=0, limits=self._limits)
        if matcher.is_error():
            reason = matcher.get_error().partition("\n")[0]
            raise InvalidRequest(f"the grammar does not compile: {reason}", "constraint.grammar")
        way = self.planner.way_out(matcher)
        compiled = CompiledGrammar(matcher, None if way is None else tuple(way))
        self._cache.keep(key, compiled, len(text))
        return compiled
