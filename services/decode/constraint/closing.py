"""The shortest way out of a grammar, nearly."""

from __future__ import annotations

from collections.abc import Iterator

from llguidance import LLMatcher

from services.common.grammar_limits import WorkMeter
from services.decode.constraint.vocabulary import GrammarVocabulary

MAX_WAY = 512


class ClosingPlanner:
    """Finds tokens that lead a matcher to where its grammar may end. Stateless; any thread.

    It follows what is forced, and elsewhere closes what is open: strings, objects, arrays, the call, the
    section. That is not always the shortest way, and where a pattern or a number cannot be closed it tries
    characters in a fixed, changing order; so a way may not be found although there is one.
    """

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        ids, special = vocabulary.byte_ids, vocabulary.special
        self._end = special.im_end
        self._markers = (special.tool_calls_section_end, special.tool_call_end)
        self._quote = ids[ord('"')]
        self._closers = (ids[ord("}")], ids[ord("]")])
        self._separators = (ids[ord(",")], ids[ord(":")])
        # A character that is free text and nothing else in JSON: allowed only inside of a string.
        self._letter = ids[ord("x")]
        self._digits = tuple(ids[byte] for byte in b"0123456789")
        self._letters = tuple(ids[byte] for byte in range(128) if chr(byte).isalpha())
        self._punctuation = tuple(ids[byte] for byte in b"!#$%&'()*+-./;<=>?@^_`|~")
        known = {*self._digits, *self._letters, *self._punctuation}
        # Blanks and the like come last: they lead nowhere.
        others = sorted(range(256), key=lambda byte: (byte <= 32, byte))
        self._others = tuple(ids[byte] for byte in others if ids[byte] not in known)
        self._openers = (
            special.tool_calls_section_begin,
            special.tool_call_begin,
            special.tool_call_argument_begin,
        )

    def way_out(
        self, matcher: LLMatcher, limit: int = MAX_WAY, meter: WorkMeter | None = None
    ) -> list[int] | None:
        """Tokens from the matcher's state to one where it may end; empty: here. None: no way was found.

        At most `limit` tokens; the one that ends the turn is not among them. The matcher stays as it is.
        Raises what `meter` raises.
        """
        probe = matcher.deep_copy()
        way: list[int] = []
        while not probe.is_accepting():
            if meter is not None:
                meter.check("the way to the end of the grammar", "constraint.grammar")
            # The mask first: it walks along what is forced without the interpreter's lock.
            mask = probe.compute_bitmask()
            tokens = probe.compute_ff_tokens() or self._choose(mask, len(way))
            if not tokens or len(way) + len(tokens) > limit or not probe.consume_tokens(tokens):
                return None
            way += tokens
        return way

    def leads_out(self, matcher: LLMatcher, way: list[int]) -> bool:
        """Whether `way` still leads from the matcher's state to an end. The matcher stays as it is."""
        # The end of the turn is taken where the grammar may end, and asking costs a tenth of going there.
        return bool(matcher.validate_tokens([*way, self._end]) == len(way) + 1)

    def _choose(self, mask: bytes, step: int) -> list[int]:
        """The best of the allowed tokens that close, or are one byte long; empty: none is."""
        allowed = (token for token in self._order(mask, step) if mask[token >> 3] >> (token & 7) & 1)
        return [token for token, _ in zip(allowed, range(1), strict=False)]

    def _order(self, mask: bytes, step: int) -> Iterator[int]:
        in_text = mask[self._letter >> 3] >> (self._letter & 7) & 1
        yield from self._markers
        if in_text:
            yield self._quote
        yield from self._closers
        yield self._quote
        yield from self._separators
        # Always the same character might never satisfy a pattern, or a multipleOf; and what a pattern asks
        # for, say an @, comes behind letters that it allows as well.
        groups = [self._digits, self._letters, self._punctuation]
        for characters in groups if step % 2 else reversed(groups):
            first = step * 7 % len(characters)
            yield from characters[first:]
            yield from characters[:first]
        yield from self._others
        yield from self._openers
