"""The entry of the table of families."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.families.family import Family, ModelLimits
from services.families.grammar import GrammarTokens, OutputMarkers
from services.families.model_profile import ModelProfile
from services.families.sampling_defaults import ModeDefaults, SamplingDefaults
from tern.chat import TernChat
from tern.tokenizer import TernTokenizer


def _limits(config: Mapping[str, Any]) -> ModelLimits:
    return ModelLimits(config["reach"], config["words"])


def _chat(directory: Path) -> TernChat:
    return TernChat(TernTokenizer.from_dir(directory))


def _grammar_tokens(directory: Path) -> GrammarTokens:
    ids = TernTokenizer.from_dir(directory).ids
    ranks = {bytes((byte,)): byte for byte in range(256)}
    markers = OutputMarkers(
        end=ids["{{stop}}"], stops=frozenset((ids["{{stop}}"],)), apart=(ids["{{you}}"], ids["{{bird}}"])
    )
    return GrammarTokens(ranks, ids, "(?s:.)", markers)


_ALWAYS = SamplingDefaults(temperature=0.5, top_p=1.0)
TERN = Family(
    _limits, _chat, _grammar_tokens, (ModelProfile("tern", ModeDefaults(_ALWAYS, _ALWAYS, _ALWAYS)),)
)
