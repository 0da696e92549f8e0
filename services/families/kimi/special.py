"""The special tokens: control markers of the chat format, by name; ids come from the checkpoint's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from services.common.errors import CheckpointError

NUM_SLOTS = 256

# Field of SpecialTokens -> the token's published name.
NAMES: Mapping[str, str] = {
    "bos": "[BOS]",
    "eos": "[EOS]",
    "im_end": "<|im_end|>",
    "im_user": "<|im_user|>",
    "im_assistant": "<|im_assistant|>",
    "im_system": "<|im_system|>",
    "im_middle": "<|im_middle|>",
    "tool_calls_section_begin": "<|tool_calls_section_begin|>",
    "tool_calls_section_end": "<|tool_calls_section_end|>",
    "tool_call_begin": "<|tool_call_begin|>",
    "tool_call_argument_begin": "<|tool_call_argument_begin|>",
    "tool_call_end": "<|tool_call_end|>",
    "media_begin": "<|media_begin|>",
    "media_content": "<|media_content|>",
    "media_end": "<|media_end|>",
    "media_pad": "<|media_pad|>",
    "think": "<think>",
    "end_think": "</think>",
    "pad": "[PAD]",
}


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that Perigee writes or understands.

    `end_think` is `</think>`; the other fields are named as the tokens are.
    """

    bos: int
    eos: int
    im_end: int
    im_user: int
    im_assistant: int
    im_system: int
    im_middle: int
    tool_calls_section_begin: int
    tool_calls_section_end: int
    tool_call_begin: int
    tool_call_argument_begin: int
    tool_call_end: int
    media_begin: int
    media_content: int
    media_end: int
    media_pad: int
    think: int
    end_think: int
    pad: int

    @classmethod
    def from_names(cls, ids: Mapping[str, int]) -> SpecialTokens:
        """`ids`: token name to id, more than are needed. Raises CheckpointError listing the missing names."""
        missing = [name for name in NAMES.values() if name not in ids]
        if missing:
            raise CheckpointError(f"no id is given to the special tokens {', '.join(missing)}")
        return cls(**{field.name: ids[NAMES[field.name]] for field in fields(cls)})
