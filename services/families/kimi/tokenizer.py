"""Text to token ids and back, from a checkpoint directory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tiktoken

from services.common.errors import CheckpointError, InvalidRequest
from services.families.kimi.added_tokens import AddedTokens, read_added_tokens
from services.families.kimi.long_text import RUN_CHARS, split_long_text
from services.families.kimi.merge_ranks import read_ranks
from services.families.kimi.pattern import PRE_TOKEN_PATTERN
from services.families.kimi.special import SpecialTokens


class KimiTokenizer:
    """A Tokenizer: byte-level BPE over `num_ranks` ranks, with 256 special slots directly above them.

    Immutable and safe for use from several threads; long encodings release the GIL.
    """

    def __init__(self, ranks: dict[bytes, int], added: AddedTokens) -> None:
        self._encoding = tiktoken.Encoding(
            "kimi", pat_str=PRE_TOKEN_PATTERN, mergeable_ranks=ranks, special_tokens=added.ids
        )
        self._ids = dict(added.ids)
        self._all_names = frozenset(added.ids)
        self.num_ranks = len(ranks)
        self._longest = max(map(len, ranks), default=1)
        self._longest_name = max(map(len, added.ids), default=1)
        self.vocab_size = len(ranks) + len(added.ids)
        self.special = SpecialTokens.from_names(added.ids)
        self.flagged_ids = added.flagged
        self._whole: dict[int, str] = {}

    @classmethod
    def from_dir(cls, directory: Path | str) -> KimiTokenizer:
        """Reads `tiktoken.model` and `tokenizer_config.json`; CheckpointError lists what is wrong."""
        directory = Path(directory)
        ranks = read_ranks(directory / "tiktoken.model")
        path = directory / "tokenizer_config.json"
        try:
            return cls(ranks, read_added_tokens(path, len(ranks)))
        except CheckpointError as error:
            raise error if str(path) in error.message else CheckpointError(f"{path}: {error}") from error

    @property
    def stop_ids(self) -> frozenset[int]:
        """What ends an answer: `<|im_end|>` and `[EOS]`."""
        return frozenset((self.special.im_end, self.special.eos))

    @property
    def end_of_turn(self) -> int:
        """`<|im_end|>`."""
        return self.special.im_end

    @property
    def media_pad(self) -> int:
        """`<|media_pad|>`."""
        return self.special.media_pad

    def is_special(self, token_id: int) -> bool:
        """Whether the id is one of the special slots, named or reserved."""
        return self.num_ranks <= token_id < self.vocab_size

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        """Ids of `text`; nothing is added in front or behind.

        Special-token strings become their ids only with `parse_special`; without it they are ordinary text,
        which is what text from outside must be. A lone surrogate is encoded as U+FFFD.
        """
        if parse_special and text in self._ids:
            # What the template writes; looking for names in a text takes a hundred times as long.
            return [self._ids[text]]
        ids: list[int] = []
        for piece in (text,) if len(text) <= RUN_CHARS else split_long_text(text):
            if parse_special:
                ids += self._encoding.encode(piece, allowed_special=self._all_names, disallowed_special=())
            else:
                ids += self._encoding.encode_ordinary(piece)
        return ids

    def least_tokens(self, num_characters: int, parse_special: bool = False) -> int:
        """A lower bound, without encoding: no text of so many characters has fewer tokens in `encode`."""
        longest = max(self._longest, self._longest_name) if parse_special else self._longest
        return -(-num_characters // longest)

    def decode_bytes(self, token_ids: Sequence[int]) -> bytes:
        """The tokens' bytes, special tokens as their names; may end in half a character.

        Raises InvalidRequest for an id outside the vocabulary.
        """
        try:
            return self._encoding.decode_bytes(token_ids)
        except (KeyError, OverflowError) as error:
            raise self._unknown(token_ids) from error

    def decode(self, token_ids: Sequence[int], skip_flagged: bool = False) -> str:
        """The text; bytes that are no UTF-8 become U+FFFD, one per maximal subpart.

        `skip_flagged` leaves out the ids flagged special by the configuration (think and tool markers are
        not). Errors as in `decode_bytes`.
        """
        if skip_flagged:
            token_ids = [token_id for token_id in token_ids if token_id not in self.flagged_ids]
        return self.decode_bytes(token_ids).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """One token's bytes. Errors as in `decode_bytes`."""
        try:
            return self._encoding.decode_single_token_bytes(token_id)
        except (KeyError, OverflowError) as error:
            raise self._unknown((token_id,)) from error

    def whole_text(self, token_id: int) -> str:
        """An ordinary token's text if its bytes are whole characters; nothing for any other id."""
        text = self._whole.get(token_id)
        if text is None:
            if not 0 <= token_id < self.num_ranks:
                return ""
            try:
                text = self.token_bytes(token_id).decode()
            except UnicodeDecodeError:
                text = ""
            self._whole[token_id] = text
        return text

    def _unknown(self, token_ids: Sequence[int]) -> InvalidRequest:
        unknown = next(token_id for token_id in token_ids if not 0 <= token_id < self.vocab_size)
        return InvalidRequest(f"token id {unknown} is outside the vocabulary of {self.vocab_size}")
