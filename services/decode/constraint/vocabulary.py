"""The checkpoint's tokens as the grammar library needs them."""

from __future__ import annotations

from pathlib import Path

from llguidance import LLTokenizer

from services.families.kimi.added_tokens import read_added_tokens
from services.families.kimi.merge_ranks import read_ranks
from services.families.kimi.pattern import PRE_TOKEN_PATTERN
from services.families.kimi.special import SpecialTokens


class GrammarVocabulary:
    """One per process: with the published files it takes about a second to build and 200 MB.

    `special`: ids of the markers; `byte_ids`: the token of each single byte, [256]; `size`: of a mask. The
    only token that ends a grammar is `<|im_end|>`. Special tokens match no text, only their own id.
    `openers`: tokens after which much may have to follow, a part of JSON or another call.
    """

    def __init__(self, directory: Path, vocab_size: int) -> None:
        """Reads the tokenizer files. Raises CheckpointError listing what is wrong with them."""
        ranks = read_ranks(directory / "tiktoken.model")
        added = read_added_tokens(directory / "tokenizer_config.json", len(ranks))
        self.special = SpecialTokens.from_names(added.ids)
        self.size = vocab_size
        self.byte_ids = tuple(ranks[bytes((byte,))] for byte in range(256))
        structural = frozenset(b'{[,":')
        opening = (token_id for token, token_id in ranks.items() if not structural.isdisjoint(token))
        self.openers = frozenset(opening) | frozenset(added.ids.values())
        self.tokenizer: LLTokenizer = LLTokenizer.from_tiktoken(  # type: ignore[attr-defined]
            encoder=ranks,
            special_tokens=added.ids,
            pattern=PRE_TOKEN_PATTERN,
            eos_token=[self.special.im_end],
            n_vocab=vocab_size,
            slices=None,
        )
