"""Finds a nearly shortest way out of a grammar: tokens that complete it."""

from __future__ import annotations

from collections.abc import Iterator

from llguidance import LLMatcher

from services.common.grammar_limits import WorkMeter
from services.decode.constraint.vocabulary import GrammarVocabulary

MAX_WAY = 512


class ClosingPlanner:
    """Finds tokens that lead a matcher to a state where its grammar may end. Stateless; any thread.

    It takes forced tokens; at a choice it closes what is open: strings, objects, arrays, the call, the
    section. The result is not always the shortest. Where a pattern or a number cannot be closed, it tries
    characters in an order that is fixed for each step; so it may miss a way out that exists.
    """

    def __init__(self, vocabulary: GrammarVocabulary) -> None:
        ids, markers = vocabulary.byte_ids, vocabulary.markers
        section = markers.section
        self._end = markers.end
        self._closing = () if section is None else section.closing
        self._opening = () if section is None else (section.begin, *section.opening)
        self._quote = ids[ord('"')]
        self._closers = (ids[ord("}")], ids[ord("]")])
        self._separators = (ids[ord(",")], ids[ord(":")])
        # In JSON this character is allowed only inside a string.
        self._letter = ids[ord("x")]
        self._digits = tuple(ids[byte] for byte in b"0123456789")
        self._letters = tuple(ids[byte] for byte in range(128) if chr(byte).isalpha())
        self._punctuation = tuple(ids[byte] for byte in b"!#$%&'()*+-./;<=>?@^_`|~")
        known = {*self._digits, *self._letters, *self._punctuation}
        # Whitespace and control characters come last: they make no progress.
        others = sorted(range(256), key=lambda byte: (byte <= 32, byte))
        self._others = tuple(ids[byte] for byte in others if ids[byte] not in known)

    def way_out(
        self, matcher: LLMatcher, limit: int = MAX_WAY, meter: WorkMeter | None = None
    ) -> list[int] | None:
        """Returns tokens from the matcher's state to an accepting one: [] if it accepts already, None if no
        way out was found.

        Returns at most `limit` tokens, without the token that ends the turn. The matcher is not changed.
        Raises InvalidRequest when `meter` is exceeded.
        """
        probe = matcher.deep_copy()
        way: list[int] = []
        while not probe.is_accepting():
            if meter is not None:
                meter.check("the way to the end of the grammar", "constraint.grammar")
            # Compute the mask first: this walks along forced bytes with the interpreter's lock released.
            mask = probe.compute_bitmask()
            tokens = probe.compute_ff_tokens() or self._choose(mask, len(way))
            if not tokens or len(way) + len(tokens) > limit or not probe.consume_tokens(tokens):
                return None
            way += tokens
        return way

    def leads_out(self, matcher: LLMatcher, way: list[int]) -> bool:
        """Whether `way` leads from the matcher's present state to an end. The matcher is not changed."""
        # im_end is valid exactly where the grammar may end; validating costs a tenth of consuming.
        return bool(matcher.validate_tokens([*way, self._end]) == len(way) + 1)

    def _choose(self, mask: bytes, step: int) -> list[int]:
        """Returns the first allowed token in `_order`, as a list; [] if none is allowed."""
        allowed = (token for token in self._order(mask, step) if mask[token >> 3] >> (token & 7) & 1)
        return [token for token, _ in zip(allowed, range(1), strict=False)]

    def _order(self, mask: bytes, step: int) -> Iterator[int]:
        in_text = mask[self._letter >> 3] >> (self._letter & 7) & 1
        yield from self._closing
        if in_text:
            yield self._quote
        yield from self._closers
        yield self._quote
        yield from self._separators
        # The order rotates with each step: repeating one character might never satisfy a pattern or a
        # multipleOf, and a character that the pattern requires, say @, may follow letters it also allows.
        groups = [self._digits, self._letters, self._punctuation]
        for characters in groups if step % 2 else reversed(groups):
            first = step * 7 % len(characters)
            yield from characters[first:]
            yield from characters[:first]
        yield from self._others
        yield from self._opening
