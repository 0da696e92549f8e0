"""The published special tokens by their slot above the ranks, and the configuration file that lists them."""

from __future__ import annotations

from typing import Any

NUM_SLOTS = 256

# Slots that the configuration flags as `special`: tokenizers remove them from decoded text.
FLAGGED = {
    0: "[BOS]",
    1: "[EOS]",
    2: "<|im_end|>",
    3: "<|im_user|>",
    4: "<|im_assistant|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    9: "[EOT]",
    10: "<|im_system|>",
    17: "<|im_middle|>",
    18: "<|media_begin|>",
    19: "<|media_content|>",
    20: "<|media_end|>",
    21: "<|media_pad|>",
    254: "[UNK]",
    255: "[PAD]",
}

# Markers of thinking and tool calls. Parsers read them, so they are not flagged.
PLAIN = {
    11: "<|tool_calls_section_begin|>",
    12: "<|tool_calls_section_end|>",
    13: "<|tool_call_begin|>",
    14: "<|tool_call_argument_begin|>",
    15: "<|tool_call_end|>",
    22: "<think>",
    23: "</think>",
}

_ROLES = {"bos_token": "[BOS]", "eos_token": "[EOS]", "pad_token": "[PAD]", "unk_token": "[UNK]"}


def tokenizer_config(num_ranks: int) -> dict[str, Any]:
    """The content of `tokenizer_config.json` above `num_ranks` ranks, with the keys of the published file."""
    decoder = {
        str(num_ranks + slot): {
            "content": name,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": slot in FLAGGED,
        }
        for slot, name in sorted((FLAGGED | PLAIN).items())
    }
    return {
        "added_tokens_decoder": decoder,
        "additional_special_tokens": [name for name in FLAGGED.values() if name not in _ROLES.values()],
        "bos_token": _ROLES["bos_token"],
        "clean_up_tokenization_spaces": False,
        "eos_token": _ROLES["eos_token"],
        "extra_special_tokens": {},
        # The published spelling of "no limit".
        "model_max_length": int(1e30),
        "pad_token": _ROLES["pad_token"],
        "tokenizer_class": "TikTokenTokenizer",
        "unk_token": _ROLES["unk_token"],
    }
