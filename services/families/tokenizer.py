"""What every family's tokenizer can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.families.text.vocabulary import Vocabulary


class Tokenizer(Vocabulary, Protocol):
    """Text to token ids and back. Immutable and safe for use from several threads."""

    @property
    def vocab_size(self) -> int:
        """Token ids are below it."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""

    @property
    def end_of_turn(self) -> int:
        """The token that ends a turn: the one with which a grammar ends."""

    @property
    def media_pad(self) -> int | None:
        """The token that stands for a part of an image or a video; None: the model sees neither."""

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        """Ids of `text`; nothing is added in front or behind.

        Special-token strings become their ids only with `parse_special`; without it they are ordinary text,
        which is what text from outside must be. A lone surrogate is encoded as U+FFFD.
        """

    def least_tokens(self, num_characters: int, parse_special: bool = False) -> int:
        """A lower bound, without encoding: no text of so many characters has fewer tokens in `encode`."""

    def decode(self, token_ids: Sequence[int], skip_flagged: bool = False) -> str:
        """The text; bytes that are no UTF-8 become U+FFFD, one per maximal subpart.

        `skip_flagged` leaves out `flagged_ids`. Raises InvalidRequest for an id outside the vocabulary.
        """
