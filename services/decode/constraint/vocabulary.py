"""The checkpoint's vocabulary in the form the grammar library needs."""

from __future__ import annotations

from pathlib import Path

from llguidance import LLTokenizer

from services.families.kimi.added_tokens import read_added_tokens
from services.families.kimi.merge_ranks import read_ranks
from services.families.kimi.pattern import PRE_TOKEN_PATTERN
from services.families.kimi.special import SpecialTokens


class GrammarVocabulary:
    """The vocabulary; one per process, because the published one takes a second to build and 200 MB.

    `special`: ids of the markers. `byte_ids`: the token of each single byte, [256]. `size`: tokens a mask
    covers. `openers`: tokens that may require many more, because they open a part of JSON or another call.
    Only `<|im_end|>` ends a grammar. Special tokens match no text, only their own id.
    """

    def __init__(self, directory: Path, vocab_size: int) -> None:
        """Reads the tokenizer files. Raises CheckpointError listing every error in them."""
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
