"""The checkpoint's vocabulary in the form the grammar library needs."""

from __future__ import annotations

from llguidance import LLTokenizer

from services.families.grammar import GrammarTokens


class GrammarVocabulary:
    """The vocabulary; one per process, because the published one takes a second to build and 200 MB.

    `byte_ids`: the token of each single byte, [256]. `size`: tokens a mask covers. `openers`: tokens that may
    require many more, because they open a part of JSON or another call. Only `markers.end` ends a grammar.
    Special tokens match no text, only their own id.
    """

    def __init__(self, tokens: GrammarTokens, vocab_size: int) -> None:
        self.markers = tokens.markers
        self.size = vocab_size
        self.byte_ids = tuple(tokens.ranks[bytes((byte,))] for byte in range(256))
        structural = frozenset(b'{[,":')
        opening = (token_id for token, token_id in tokens.ranks.items() if not structural.isdisjoint(token))
        self.openers = frozenset(opening) | frozenset(tokens.special.values())
        self.tokenizer: LLTokenizer = LLTokenizer.from_tiktoken(  # type: ignore[attr-defined]
            encoder=tokens.ranks,
            special_tokens=tokens.special,
            pattern=tokens.pattern,
            eos_token=[tokens.markers.end],
            n_vocab=vocab_size,
            slices=None,
        )
