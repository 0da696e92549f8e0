"""What turning tokens into text needs of a tokenizer."""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol


class Vocabulary(Protocol):
    """The texts of token ids; a model's tokenizer has them. Raises InvalidRequest for an id outside it."""

    @property
    def flagged_ids(self) -> Container[int]:
        """Ids that give no text: the checkpoint's configuration flags them special."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one token, which may begin or end inside a character."""

    def whole_text(self, token_id: int) -> str:
        """The text of a token whose bytes are whole characters; else empty."""
