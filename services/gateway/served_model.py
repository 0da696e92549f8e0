"""The served model: its names, family, tokenizer and limits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from services.common.errors import CheckpointError, ConfigError, ModelNotFound
from services.common.model_types import read_config
from services.families.family import ChatFormat, Family
from services.families.model_profile import ModelProfile
from services.families.profile_choice import choose_profile
from services.families.registry import family_in, family_of_tokenizer
from services.families.tokenizer import Tokenizer


@dataclass(frozen=True)
class ServedModel:
    """Constant for the life of the gateway.

    `chat`: the family's format with the checkpoint's tokenizer. `context_length` (0: not known) and
    `vocab_size`: tokens; `vision`: whether the model sees and an image encoder is configured; `profile`:
    which of the family's models it is, and `profile_because` why; `created`: Unix seconds the gateway started
    serving it; `aliases`: patterns of other names, each with the served name that it stands for.
    """

    names: tuple[str, ...]
    family: Family
    chat: ChatFormat
    context_length: int
    vocab_size: int
    vision: bool
    profile: ModelProfile
    profile_because: str = ""
    created: int = field(default_factory=lambda: int(time.time()))
    aliases: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_dir(
        cls, directory: Path, names: tuple[str, ...], vision: bool, profile: str = ""
    ) -> ServedModel:
        """Reads config.json and the tokenizer files; `profile`: its name; empty: as the checkpoint suggests.

        Raises CheckpointError naming what is missing, ConfigError for an unknown profile.
        """
        family = family_in(directory)
        path = directory / "config.json"
        try:
            limits = family.read_limits(read_config(path))
        except KeyError as error:
            raise CheckpointError(f"{path}: {error.args[0]} is missing") from error
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: no context length or vocabulary size: {error}") from error
        chosen = choose_profile(family, directory, names, profile)
        return cls(
            names=names or (directory.resolve().name,),
            family=family,
            chat=family.open_chat(directory),
            context_length=limits.context_length,
            vocab_size=limits.vocab_size,
            vision=vision and family.media is not None,
            profile=chosen.profile,
            profile_because=chosen.because,
        )

    @classmethod
    def of_tokenizer(cls, directory: Path, names: tuple[str, ...], profile: str = "") -> ServedModel:
        """A model from tokenizer files alone: no images, unknown context length. `profile` as in `from_dir`.

        Raises CheckpointError listing what is missing or wrong, ConfigError for an unknown profile.
        """
        family = family_of_tokenizer(directory)
        chosen = choose_profile(family, directory, names, profile)
        chat = family.open_chat(directory)
        return cls(
            names=names or (directory.resolve().name,),
            family=family,
            chat=chat,
            context_length=0,
            vocab_size=chat.tokenizer.vocab_size,
            vision=False,
            profile=chosen.profile,
            profile_because=chosen.because,
        )

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's."""
        return self.chat.tokenizer

    def context(self, workers: int | None) -> int:
        """Longest prompt plus completion, tokens, where workers take at most `workers` (None: unknown)."""
        return self.context_length if workers is None else min(workers, self.context_length)

    def with_aliases(self, entries: Sequence[str]) -> ServedModel:
        """The same model with these aliases, each `PATTERN=NAME`. Raises ConfigError for what is none."""
        aliases = []
        for entry in entries:
            pattern, equals, name = (part.strip() for part in entry.rpartition("="))
            if not (pattern and equals):
                raise ConfigError(
                    f"model_alias: {entry!r} is no PATTERN=NAME, such as claude-*={self.names[0]}"
                )
            if name not in self.names:
                raise ConfigError(f"model_alias: {name!r} is not served; served: {', '.join(self.names)}")
            aliases.append((pattern, name))
        return replace(self, aliases=tuple(aliases))

    def resolve(self, name: str, param: str = "model") -> str:
        """The served name a caller means; empty is the primary one. A served name counts before aliases, and
        the first alias that fits before others. Raises ModelNotFound naming `param`.
        """
        if not name:
            return self.names[0]
        if name not in self.names:
            for pattern, served in self.aliases:
                if fnmatchcase(name, pattern):
                    return served
            raise ModelNotFound(f"no model {name!r} is served here; served: {', '.join(self.names)}", param)
        return name
