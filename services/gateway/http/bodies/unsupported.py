"""Fields this server knows but does not offer: a value that would change the answer is refused.

The rule for the whole door: unknown fields are ignored, as OpenAI's clients expect; a known one is honoured
or answered with 400 `unsupported_value` naming it. Null, and the value that means "as usual", are accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from services.common.errors import UnsupportedValue
from services.gateway.http.bodies.chat import ChatBody
from services.gateway.http.bodies.fields.known import refuse_known

NEUTRAL: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "web_search_options": (),
        "best_of": (1,),
        "echo": (False,),
        "chat_template": (),
        "documents": ([],),
        "structured_outputs": (),
        "guided_json": (),
        "guided_regex": (),
        "guided_choice": (),
        "guided_grammar": (),
        "include_reasoning": (True,),
        "thinking_token_budget": (),
        "thinking_budget": (),
        "verbosity": ("medium",),
        "store": (False,),
        "input_ids": (),
    }
)
"""The values, beside null, that are taken of each field of a chat body that is not supported."""
_values = attrgetter(*NEUTRAL)
_ABSENT = (None,) * len(NEUTRAL)


def refuse_unsupported(body: ChatBody) -> None:
    """Raises UnsupportedValue naming the first field whose value is not offered."""
    refuse_known(body)
    values = _values(body)
    if values != _ABSENT:
        for (field, neutral), value in zip(NEUTRAL.items(), values, strict=True):
            if value is not None and value not in neutral:
                raise UnsupportedValue(f"{field} is not supported by this server", field)
    refuse_stream_options_alone(body.stream_options, body.stream)


def refuse_stream_options_alone(options: dict[str, Any] | None, stream: bool | None) -> None:
    """Raises UnsupportedValue for options of a stream where there is none."""
    if options is not None and not stream:
        raise UnsupportedValue("stream_options needs stream to be true", "stream_options")
