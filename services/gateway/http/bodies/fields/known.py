"""Fields that OpenAI's, SGLang's and vLLM's clients know and that every generating route treats alike.

Null means absent everywhere. A value that means "as usual" is accepted; any other is refused, by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import fields

from services.common.errors import UnsupportedValue
from services.gateway.http.bodies.fields.limited import PriorityField


class CallerMetadata(Struct, kw_only=True):
    """Caller-side identifiers: accepted and ignored."""

    user: str | None = None
    metadata: Any = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    rid: str | list[str] | None = None
    request_id: str | None = None
    session_id: str | None = None


class QueuedFields(CallerMetadata, kw_only=True):
    """Scheduling fields, checked by the pipeline's limits."""

    priority: PriorityField | None = None


class KnownFields(QueuedFields, kw_only=True):
    """Fields that are known but not supported; see `refuse_known`."""

    extra_key: str | list[str] | None = None
    service_tier: str | None = None
    lora_path: Any = None
    use_beam_search: bool | None = None
    length_penalty: float | None = None
    include_stop_str_in_output: bool | None = None
    no_stop_trim: bool | None = None
    stop_regex: Any = None
    bad_words: list[str] | None = None
    allowed_token_ids: list[int] | None = None
    repetition_detection: Any = None
    custom_logit_processor: Any = None
    custom_params: Any = None
    watermark: Any = None
    watermarking: Any = None
    vllm_xargs: Any = None
    spaces_between_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: str | None = None
    images_config: Any = None
    video_config: Any = None
    max_dynamic_patch: int | None = None
    min_dynamic_patch: int | None = None
    mm_processor_kwargs: Any = None
    media_io_kwargs: Any = None
    session_params: Any = None
    stream_interval: int | None = None
    logprob_token_ids: Any = None
    sampling_logprobs_mode: Any = None
    return_sampling_mask: bool | None = None
    return_hidden_states: bool | None = None
    return_routed_experts: bool | None = None
    routed_experts_start_len: int | None = None
    routed_experts_prompt_start: int | None = None
    return_cached_tokens_details: bool | None = None
    return_spec_tokens_details: bool | None = None
    return_meta_info: bool | None = None
    return_token_ids: bool | None = None
    return_prompt_token_ids: bool | None = None
    return_tokens_as_token_ids: bool | None = None
    return_token_offsets: bool | None = None
    return_prompt_text: bool | None = None
    return_weight_versions: bool | None = None


# Values that mean "as usual", besides null, false, zero and empty ones. This tokenizer adds no special
# tokens and the detokenizer no spaces.
_USUAL: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        "service_tier": ("auto", "default"),
        "lora_path": ([None],),
        "length_penalty": (1.0,),
        "spaces_between_special_tokens": (True,),
        "add_special_tokens": (True,),
        "truncation_side": ("left", "right"),
        "stream_interval": (1,),
    }
)
_OFFERED = frozenset(field.name for field in fields(QueuedFields))


NOTHING: tuple[Any, ...] = (None, False, 0, "", [], {})
"""What always means "as usual"."""
KNOWN: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {
        name: NOTHING + _USUAL.get(name, ())
        for name in (field.name for field in fields(KnownFields))
        if name not in _OFFERED
    }
)
"""The values that are taken of each known field that is not supported."""
_values = attrgetter(*KNOWN)
_ABSENT = (None,) * len(KNOWN)


def refuse_known(body: KnownFields) -> None:
    """Raises UnsupportedValue naming the first known field whose value is not supported."""
    values = _values(body)
    if values == _ABSENT:  # as in nearly every body; to look at each costs twenty times as much
        return
    for (name, usual), value in zip(KNOWN.items(), values, strict=True):
        if value not in usual:
            raise UnsupportedValue(f"{name} is not supported by this server", name)
