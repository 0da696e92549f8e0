"""Kimi-K2.5, K2.6 and K2.7-Code as one entry of the table of families."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.families.family import ChatFormat, Family, ModelLimits
from services.families.grammar import GrammarTokens, OutputMarkers, SectionMarkers
from services.families.kimi.added_tokens import read_added_tokens
from services.families.kimi.media import image_grid
from services.families.kimi.merge_ranks import read_ranks
from services.families.kimi.pattern import PRE_TOKEN_PATTERN
from services.families.kimi.profiles import PROFILES, suggest_profile
from services.families.kimi.special import SpecialTokens
from services.families.kimi.video import video_chunks
from services.families.media import MediaArithmetic


def _limits(config: Mapping[str, Any]) -> ModelLimits:
    text = config["text_config"]
    return ModelLimits(int(text["max_position_embeddings"]), int(text["vocab_size"]))


def _chat(directory: Path) -> ChatFormat:
    # Only gateways have the tokenizer's library; workers use the rest of the family.
    from services.families.kimi.chat_format import KimiChat
    from services.families.kimi.tokenizer import KimiTokenizer

    return KimiChat(KimiTokenizer.from_dir(directory))


def _grammar_tokens(directory: Path) -> GrammarTokens:
    ranks = read_ranks(directory / "tiktoken.model")
    added = read_added_tokens(directory / "tokenizer_config.json", len(ranks))
    return GrammarTokens(ranks, added.ids, PRE_TOKEN_PATTERN, markers(SpecialTokens.from_names(added.ids)))


def markers(special: SpecialTokens) -> OutputMarkers:
    """The tokens that structure an output."""
    return OutputMarkers(
        end=special.im_end,
        stops=frozenset((special.im_end, special.eos)),
        apart=(special.im_middle, special.end_think),
        end_reasoning=special.end_think,
        section=SectionMarkers(
            begin=special.tool_calls_section_begin,
            opening=(special.tool_call_begin, special.tool_call_argument_begin),
            closing=(special.tool_calls_section_end, special.tool_call_end),
        ),
    )


MEDIA = MediaArithmetic(image_grid, video_chunks)
KIMI = Family(_limits, _chat, _grammar_tokens, PROFILES, MEDIA, suggest_profile)
