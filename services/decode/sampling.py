"""Sampling controls off the wire."""

from __future__ import annotations

from perigee.v1 import sampling_pb2
from services.common.errors import InvalidRequest
from services.engine.sampling.spec import SamplingSpec

MAX_CHOICES = 16


def sampling_spec(params: sampling_pb2.SamplingParams, vocab_size: int) -> SamplingSpec:
    """The controls with defaults in place of what is absent; InvalidRequest names a field out of range."""
    if params.n > MAX_CHOICES:
        raise InvalidRequest(f"n is {params.n}; at most {MAX_CHOICES} choices are offered", "n")
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
