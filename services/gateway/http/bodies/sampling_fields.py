"""The sampling controls that OpenAI's two routes spell alike."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import InvalidRequest
from services.gateway.http.bodies.known_fields import KnownFields
from services.gateway.sampling import SamplingOptions


class SamplingFields(KnownFields, kw_only=True):
    """Sampling fields; protos/perigee/v1/sampling.proto defines meaning and ranges. Null means absent."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    n: int | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    skip_special_tokens: bool | None = None


def options_of(
    body: SamplingFields, max_tokens: int | None, top_logprobs: int | None, *, logprobs: bool
) -> SamplingOptions:
    """The pipeline's form, with what the routes spell each in its own way beside it."""
    return SamplingOptions(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=unlimited_top_k(body.top_k),
        min_p=body.min_p or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=body.repetition_penalty,
        logit_bias=bias_by_id(body.logit_bias, "logit_bias"),
        seed=unsigned_seed(body.seed),
        n=1 if body.n is None else body.n,
        max_tokens=max_tokens,
        min_tokens=body.min_tokens or 0,
        ignore_eos=bool(body.ignore_eos),
        stop_token_ids=tuple(body.stop_token_ids or ()),
        stop=stop_strings(body.stop),
        logprobs=logprobs,
        top_logprobs=top_logprobs or 0,
        skip_special_tokens=body.skip_special_tokens is not False,
    )


def stop_strings(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """One, several or none."""
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def unlimited_top_k(top_k: int | None) -> int:
    """-1 is how the engines' clients spell "no limit"."""
    return 0 if top_k in (None, -1) else top_k or 0


def unsigned_seed(seed: int | None) -> int | None:
    """OpenAI's seed is a signed 64-bit number; the key of the generator is unsigned."""
    return seed + (1 << 64) if seed is not None and -(1 << 63) <= seed < 0 else seed


def bias_by_id(given: dict[str, float] | None, param: str) -> dict[int, float]:
    """Raises InvalidRequest for a key that is no number."""
    try:
        return {int(token_id): bias for token_id, bias in (given or {}).items()}
    except ValueError as error:
        raise InvalidRequest(f"the keys of {param} are token ids: {error}", param) from error
