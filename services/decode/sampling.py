"""Converts sampling controls from their proto message."""

from __future__ import annotations

from perigee.v1 import sampling_pb2
from services.common.errors import InvalidRequest
from services.engine.sampling.spec import SamplingSpec

MAX_CHOICES = 16


def sampling_spec(params: sampling_pb2.SamplingParams, vocab_size: int) -> SamplingSpec:
    """Returns the controls, absent ones as defaults. Raises InvalidRequest naming a field out of range."""
    if params.n > MAX_CHOICES:
        raise InvalidRequest(f"n is {params.n}; must be at most {MAX_CHOICES}", "n")
    spec = SamplingSpec(
        temperature=params.temperature if params.HasField("temperature") else 1.0,
        top_p=params.top_p if params.HasField("top_p") else 0.95,
        top_k=params.top_k,
        min_p=params.min_p,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        repetition_penalty=params.repetition_penalty if params.HasField("repetition_penalty") else 1.0,
        logit_bias=tuple(sorted(params.logit_bias.items())),
        min_tokens=params.min_tokens,
        stop_token_ids=frozenset(params.stop_token_ids),
        logprobs=params.logprobs,
        top_logprobs=params.top_logprobs,
    )
    spec.check_vocabulary(vocab_size)
    return spec
