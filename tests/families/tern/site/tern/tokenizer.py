"""A byte is a token; four markers come behind the bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from services.common.errors import CheckpointError, InvalidRequest

MARKERS = ("{{you}}", "{{bird}}", "{{note}}", "{{stop}}")


class TernTokenizer:
    """A Tokenizer. `ids`: of the markers, by name."""

    media_pad = None

    def __init__(self, ids: dict[str, int]) -> None:
        self.ids = ids
        self.names = {token_id: name for name, token_id in ids.items()}
        self.flagged_ids = frozenset(self.names)
        self.vocab_size = 256 + len(ids)
        self.end_of_turn = ids["{{stop}}"]
        self.stop_ids = frozenset((self.end_of_turn,))

    @classmethod
    def from_dir(cls, directory: Path) -> TernTokenizer:
        """Reads `markers.json`."""
        path = directory / "markers.json"
        try:
            ids = json.loads(path.read_text())
        except OSError as error:
            raise CheckpointError(f"{path}: {error.strerror}") from error
        if sorted(ids) != sorted(MARKERS):
            raise CheckpointError(f"{path}: these markers are wanted: {', '.join(MARKERS)}")
        return cls(ids)

    def encode(self, text: str, parse_special: bool = False) -> list[int]:
        if parse_special and text in self.ids:
            return [self.ids[text]]
        return list(text.encode(errors="replace"))

    def least_tokens(self, num_characters: int, parse_special: bool = False) -> int:
        return num_characters // max(map(len, self.ids)) if parse_special else num_characters

    def decode(self, token_ids: Sequence[int], skip_flagged: bool = False) -> str:
        kept = (token_id for token_id in token_ids if not (skip_flagged and token_id in self.names))
        return b"".join(map(self.token_bytes, kept)).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        if token_id in self.names:
            return self.names[token_id].encode()
        if not 0 <= token_id < 256:
            raise InvalidRequest(f"token id {token_id} is outside the vocabulary of {self.vocab_size}")
        return bytes((token_id,))

    def whole_text(self, token_id: int) -> str:
        return chr(token_id) if 0 <= token_id < 128 else ""
