"""The body of POST /generate, SGLang's own route; see http/schema.py for the rules."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from perigee.v1 import sampling_pb2
from services.common.errors import InvalidRequest, UnsupportedValue
from services.common.sampling.controls import BY_NAME
from services.common.sampling.params import FieldName
from services.gateway.http.bodies.fields.known import KnownFields, refuse_known
from services.gateway.http.bodies.fields.limited import IdsField, SaltField, StartField, TextField, TopField
from services.gateway.http.bodies.fields.sampling import params_of, with_controls

# SGLang's.
DEFAULT_MAX_TOKENS = 128


@with_controls("sglang")
class GenerateParams(Struct, kw_only=True):
    """Sampling controls in SGLang's spelling. Null means absent."""

    json_schema: str | dict[str, Any] | bool | None = None
    regex: str | None = None
    ebnf: str | None = None

    # Not supported, apart from the first, which changes nothing.
    spaces_between_special_tokens: bool | None = None
    no_stop_trim: bool | None = None
    stop_regex: str | list[str] | None = None
    structural_tag: Any = None
    custom_params: Any = None
    stream_interval: int | None = None
    beam_width: int | None = None


class GenerateBody(KnownFields, kw_only=True):
    """Exactly one of `text` and `input_ids`, each one prompt or several. Lists of other fields: one entry per
    prompt. Null means absent.
    """

    text: TextField | None = None
    input_ids: IdsField | None = None
    model: str | None = None
    sampling_params: GenerateParams | list[GenerateParams] | None = None
    stream: bool | None = None
    return_logprob: bool | list[bool] | None = None
    top_logprobs_num: TopField | list[TopField] | None = None
    logprob_start_len: StartField | list[StartField] | None = None
    return_text_in_logprobs: bool | None = None
    parse_special: bool | None = None
    cache_salt: SaltField | None = None

    # Not supported, as KnownFields are not.
    prompt_logprobs: int | None = None
    token_ids_logprob: Any = None
    input_embeds: Any = None
    image_data: Any = None
    video_data: Any = None
    audio_data: Any = None


REFUSED = ("token_ids_logprob", "input_embeds", "image_data", "video_data", "audio_data")
REFUSED_PARAMS = ("no_stop_trim", "stop_regex", "structural_tag", "custom_params")


def refuse_unsupported_generate(body: GenerateBody) -> None:
    """Raises UnsupportedValue naming the first field whose value is not offered."""
    refuse_known(body)
    for field in REFUSED:
        value = getattr(body, field)
        if value and value != [None]:
            raise UnsupportedValue(f"{field} is not supported by this route", field)
    if body.prompt_logprobs is not None:
        raise UnsupportedValue("this route has logprob_start_len for it", "prompt_logprobs")


def sampling_of(
    params: GenerateParams,
    where: str,
    vocab_size: int,
    name: FieldName,
    top_logprobs: int | None,
    *,
    logprobs: bool,
) -> sampling_pb2.SamplingParams:
    """The pipeline's form. `where`: the field that holds `params`. Raises the InvalidRequest family."""
    for field in REFUSED_PARAMS:
        if getattr(params, field):
            raise UnsupportedValue(f"{field} is not supported by this route", f"{where}.{field}")
    for field in ("stream_interval", "beam_width"):
        if getattr(params, field) not in (None, 0, 1):
            raise UnsupportedValue(f"{field} is not supported by this route", f"{where}.{field}")
    asked = {"logprobs": True, "top_logprobs": top_logprobs} if logprobs else {}
    made = params_of(params, "sglang", vocab_size, name, **asked)
    if not made.HasField("max_tokens"):
        made.max_tokens = DEFAULT_MAX_TOKENS
    return made


def field_name(where: str, control: str) -> str:
    """How this route spells a control; `where`: the field that holds the parameters."""
    if control == "top_logprobs":
        return "top_logprobs_num"
    return f"{where}.{BY_NAME[control].spelt('sglang')}"


def per_prompt(value: Any, count: int, param: str) -> list[Any]:
    """A list's entries, one per prompt, or one value for all. Raises InvalidRequest for another length."""
    if not isinstance(value, list):
        return [value] * count
    if len(value) != count:
        raise InvalidRequest(f"{param} has {len(value)} entries for {count} prompts", param)
    return value
