"""The served model: its names, tokenizer and limits."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.common.errors import CheckpointError, ModelNotFound
from services.families.kimi.tokenizer import Tokenizer


@dataclass(frozen=True)
class ServedModel:
    """Constant for the life of the gateway.

    `context_length` (0: not known) and `vocab_size`: tokens; `vision`: whether an image encoder is
    configured; `created`: Unix seconds the gateway started serving it.
    """

    names: tuple[str, ...]
    tokenizer: Tokenizer
    context_length: int
    vocab_size: int
    vision: bool
    created: int = field(default_factory=lambda: int(time.time()))

    @classmethod
    def from_dir(cls, directory: Path, names: tuple[str, ...], vision: bool) -> ServedModel:
        """Reads config.json and the tokenizer files; raises CheckpointError naming what is missing."""
        config = _text_config(directory / "config.json")
        try:
            context_length, vocab_size = int(config["max_position_embeddings"]), int(config["vocab_size"])
        except KeyError as error:
            raise CheckpointError(f"{directory / 'config.json'}: {error.args[0]} is missing") from error
        return cls(
            names=names or (directory.resolve().name,),
            tokenizer=Tokenizer.from_dir(directory),
            context_length=context_length,
            vocab_size=vocab_size,
            vision=vision,
        )

    @classmethod
    def of_tokenizer(cls, directory: Path, names: tuple[str, ...]) -> ServedModel:
        """A model from tokenizer files alone: no images, unknown context length.

        Raises CheckpointError listing what is missing or wrong.
        """
        tokenizer = Tokenizer.from_dir(directory)
        return cls(
            names=names or (directory.resolve().name,),
            tokenizer=tokenizer,
            context_length=0,
            vocab_size=tokenizer.vocab_size,
            vision=False,
        )

    def context(self, workers: int | None) -> int:
        """Longest prompt plus completion, tokens, where workers take at most `workers` (None: unknown)."""
        return self.context_length if workers is None else min(workers, self.context_length)

    def resolve(self, name: str, param: str = "model") -> str:
        """The served name a caller means; empty is the primary one. Raises ModelNotFound naming `param`."""
        if not name:
            return self.names[0]
        if name not in self.names:
            raise ModelNotFound(f"no model {name!r} is served here; served: {', '.join(self.names)}", param)
        return name


def _text_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    text: dict[str, Any] = config.get("text_config", config)
    return text
