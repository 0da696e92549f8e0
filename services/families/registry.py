"""The model families without their weights: one entry per `model_type`."""

from __future__ import annotations

from pathlib import Path

from services.common.model_types import ModelTypes, read_config
from services.families.family import Family
from services.families.kimi.family import KIMI

FAMILIES = ModelTypes({"kimi_k25": KIMI}, "perigee.families", Family)
_OF_BARE_TOKENIZERS = "kimi_k25"


def family_in(directory: Path) -> Family:
    """The family of a checkpoint, by its config.json. CheckpointError names an unknown `model_type`."""
    path = directory / "config.json"
    return FAMILIES.find_for(read_config(path), str(path))


def family_of_tokenizer(directory: Path) -> Family:
    """The family of tokenizer files, of which only those of Kimi-K2.5 may lack a config.json."""
    if (directory / "config.json").exists():
        return family_in(directory)
    return FAMILIES.find(_OF_BARE_TOKENIZERS, str(directory))
