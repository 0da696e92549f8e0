"""The body of POST /generate, SGLang's own route; see http/schema.py for the rules."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from services.common.errors import InvalidRequest, UnsupportedValue
from services.gateway.http.bodies.known_fields import KnownFields, refuse_known
from services.gateway.http.bodies.sampling_fields import (
    bias_by_id,
    stop_strings,
    unlimited_top_k,
    unsigned_seed,
)
from services.gateway.sampling import SamplingOptions

# SGLang's.
DEFAULT_MAX_TOKENS = 128


class GenerateParams(Struct, kw_only=True):
    """Sampling controls in SGLang's spelling. Of the second block what changes the answer is refused."""

    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    sampling_seed: int | None = None
    n: int | None = None
    ignore_eos: bool | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    skip_special_tokens: bool | None = None
    json_schema: str | dict[str, Any] | bool | None = None
    regex: str | None = None
    ebnf: str | None = None

    spaces_between_special_tokens: bool | None = None
    no_stop_trim: bool | None = None
    stop_regex: str | list[str] | None = None
    structural_tag: Any = None
    custom_params: Any = None
    stream_interval: int | None = None
    beam_width: int | None = None


class GenerateBody(KnownFields, kw_only=True):
    """Exactly one of `text` and `input_ids`, each one prompt or several. Lists of other fields: one entry per
    prompt. `parse_special` as in CompletionBody. `rid` names the answer. Of the second block what changes the
    answer is refused.
    """

    text: str | list[str] | None = None
    input_ids: list[int | list[int]] | None = None
    model: str | None = None
    sampling_params: GenerateParams | list[GenerateParams] | None = None
    stream: bool | None = None
    return_logprob: bool | list[bool] | None = None
    top_logprobs_num: int | list[int] | None = None
    return_text_in_logprobs: bool | None = None
    parse_special: bool | None = None
    cache_salt: str | None = None

    logprob_start_len: int | list[int] | None = None
    token_ids_logprob: Any = None
    input_embeds: Any = None
    image_data: Any = None
    video_data: Any = None
    audio_data: Any = None


_REFUSED = ("token_ids_logprob", "input_embeds", "image_data", "video_data", "audio_data")
_REFUSED_PARAMS = ("no_stop_trim", "stop_regex", "structural_tag", "custom_params")


def refuse_unsupported_generate(body: GenerateBody) -> None:
    """Raises UnsupportedValue naming the first field whose value is not offered."""
    refuse_known(body)
    for field in _REFUSED:
        value = getattr(body, field)
        if value and value != [None]:
            raise UnsupportedValue(f"{field} is not supported by this route", field)
    starts = body.logprob_start_len if isinstance(body.logprob_start_len, list) else [body.logprob_start_len]
    if body.return_logprob and any(start not in (None, -1) for start in starts):
        raise UnsupportedValue(
            "log-probabilities of the prompt are not computed: logprob_start_len must be -1",
            "logprob_start_len",
        )


def options_of_params(
    params: GenerateParams, where: str, top_logprobs: int | None, *, logprobs: bool
) -> SamplingOptions:
    """The pipeline's form. `where`: the field that holds `params`. Raises the InvalidRequest family."""
    for field in _REFUSED_PARAMS:
        if getattr(params, field):
            raise UnsupportedValue(f"{field} is not supported by this route", f"{where}.{field}")
    for field in ("stream_interval", "beam_width"):
        if getattr(params, field) not in (None, 0, 1):
            raise UnsupportedValue(f"{field} is not supported by this route", f"{where}.{field}")
    return SamplingOptions(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=unlimited_top_k(params.top_k),
        min_p=params.min_p or 0.0,
        presence_penalty=params.presence_penalty or 0.0,
        frequency_penalty=params.frequency_penalty or 0.0,
        repetition_penalty=params.repetition_penalty,
        logit_bias=bias_by_id(params.logit_bias, f"{where}.logit_bias"),
        seed=unsigned_seed(params.sampling_seed),
        n=1 if params.n is None else params.n,
        max_tokens=DEFAULT_MAX_TOKENS if params.max_new_tokens is None else params.max_new_tokens,
        min_tokens=params.min_new_tokens or 0,
        ignore_eos=bool(params.ignore_eos),
        stop_token_ids=tuple(params.stop_token_ids or ()),
        stop=stop_strings(params.stop),
        logprobs=logprobs,
        top_logprobs=(top_logprobs or 0) if logprobs else 0,
        skip_special_tokens=params.skip_special_tokens is not False,
    )


def per_prompt(value: Any, count: int, param: str) -> list[Any]:
    """A list's entries, one per prompt, or one value for all. Raises InvalidRequest for another length."""
    if not isinstance(value, list):
        return [value] * count
    if len(value) != count:
        raise InvalidRequest(f"{param} has {len(value)} entries for {count} prompts", param)
    return value
