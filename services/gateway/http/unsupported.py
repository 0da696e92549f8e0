"""Fields this server knows but does not offer: a value that would change the answer is refused.

The rule for the whole door: unknown fields are ignored, as OpenAI's clients expect; a known one is honoured
or answered with 400 `unsupported_value` naming it. Null, and the value that means "as usual", are accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from services.common.errors import UnsupportedValue
from services.gateway.http.schema import ChatBody

# Field -> the values that mean "as usual" beside null.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "web_search_options": (),
        "best_of": (1,),
        "use_beam_search": (False,),
        "length_penalty": (1.0,),
        "echo": (False,),
        "continue_final_message": (False,),
        "add_generation_prompt": (True,),
        "chat_template": (),
        "documents": ([],),
        "skip_special_tokens": (True,),
        "include_stop_str_in_output": (False,),
        "no_stop_trim": (False,),
        "stop_regex": ("", []),
        "structured_outputs": (),
        "guided_json": (),
        "guided_regex": (),
        "guided_choice": (),
        "guided_grammar": (),
        "prompt_logprobs": (),
        "truncate_prompt_tokens": (),
        "bad_words": ([],),
        "allowed_token_ids": (),
        "separate_reasoning": (True,),
        "include_reasoning": (True,),
        "lora_path": ("",),
        "input_ids": (),
    }
)


def refuse_unsupported(body: ChatBody) -> None:
    """Raises UnsupportedValue naming the first field whose value is not offered."""
    for field, neutral in _NEUTRAL.items():
        value = getattr(body, field)
        if value is not None and value not in neutral:
            raise UnsupportedValue(f"{field} is not supported by this server", field)
    if body.stream_options is not None:
        if not body.stream:
            raise UnsupportedValue("stream_options needs stream to be true", "stream_options")
        if body.stream_options.continuous_usage_stats:
            raise UnsupportedValue(
                "continuous_usage_stats is not supported", "stream_options.continuous_usage_stats"
            )
