"""Token ids as defined by the checkpoint's tokenizer files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

SPECIAL_SLOTS = 256


@dataclass(frozen=True)
class Vocabulary:
    """`ranks` ordinary tokens, then 256 special slots; `specials` maps the text of the named ones to their
    ids.
    """

    ranks: int
    specials: dict[str, int]

    @classmethod
    def from_dir(cls, directory: Path) -> Vocabulary:
        """Reads tiktoken.model and tokenizer_config.json. SystemExit names the file that is missing."""
        try:
            ranks = sum(1 for line in (directory / "tiktoken.model").open("rb") if line.strip())
            values = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise SystemExit(f"{error.filename} is absent: make the tokenizer first") from error
        decoder = values["added_tokens_decoder"]
        return cls(ranks, {entry["content"]: int(token_id) for token_id, entry in decoder.items()})

    @property
    def size(self) -> int:
        """Number of rows of the embedding."""
        return self.ranks + SPECIAL_SLOTS

    def special(self, content: str) -> int:
        """The id of the special token with the text `content`."""
        return self.specials[content]
