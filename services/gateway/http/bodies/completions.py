"""The body of POST /v1/completions; see http/schema.py for the rules."""

from __future__ import annotations

from typing import Any

from services.common.errors import UnsupportedValue
from services.gateway.constraint.response_format import ResponseFormatField
from services.gateway.http.bodies.fields.known import KnownFields, refuse_known
from services.gateway.http.bodies.fields.limited import (
    MaxTokensField,
    PromptField,
    SaltField,
    TopField,
)
from services.gateway.http.bodies.fields.nested import StreamOptionsField
from services.gateway.http.bodies.fields.sampling import with_controls

# OpenAI's, and the engines'.
DEFAULT_MAX_TOKENS = 16


@with_controls("openai")
class CompletionBody(KnownFields, kw_only=True):
    """Prompts to continue. Null means absent."""

    prompt: PromptField
    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptionsField | None = None
    max_tokens: MaxTokensField | None = None
    echo: bool | None = None
    logprobs: TopField | None = None
    prompt_logprobs: TopField | None = None
    parse_special: bool | None = None
    cache_salt: SaltField | None = None
    response_format: ResponseFormatField | None = None
    json_schema: str | dict[str, Any] | bool | None = None
    regex: str | None = None
    ebnf: str | None = None

    # Not supported, as KnownFields are not; `best_of` may be n.
    best_of: int | None = None
    suffix: str | None = None
    image_data: Any = None
    structured_outputs: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None


REFUSED = (
    "suffix", "image_data", "structured_outputs", "guided_json", "guided_regex", "guided_choice",
    "guided_grammar",
)  # fmt: skip


def refuse_unsupported_completion(body: CompletionBody, choices: int) -> None:
    """Raises UnsupportedValue naming the first field whose value is not offered. `choices`: how many."""
    refuse_known(body)
    for field in REFUSED:
        if getattr(body, field):
            raise UnsupportedValue(f"{field} is not supported by this route", field)
    if body.best_of not in (None, choices):
        raise UnsupportedValue("best_of must be n: all choices are returned", "best_of")
