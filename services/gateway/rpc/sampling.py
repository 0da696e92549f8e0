"""SamplingParams of the wire as the pipeline's options."""

from __future__ import annotations

from perigee.v1 import sampling_pb2
from services.gateway.sampling import SamplingOptions


def options_from_proto(params: sampling_pb2.SamplingParams) -> SamplingOptions:
    """The same controls; an absent optional becomes None."""
    return SamplingOptions(
        temperature=params.temperature if params.HasField("temperature") else None,
        top_p=params.top_p if params.HasField("top_p") else None,
        top_k=params.top_k,
        min_p=params.min_p,
        presence_penalty=params.presence_penalty,
        frequency_penalty=params.frequency_penalty,
        repetition_penalty=params.repetition_penalty if params.HasField("repetition_penalty") else None,
        logit_bias=dict(params.logit_bias),
        seed=params.seed if params.HasField("seed") else None,
        n=params.n or 1,
        max_tokens=params.max_tokens if params.HasField("max_tokens") else None,
        min_tokens=params.min_tokens,
        ignore_eos=params.ignore_eos,
        stop_token_ids=tuple(params.stop_token_ids),
        stop=tuple(params.stop),
        logprobs=params.logprobs,
        top_logprobs=params.top_logprobs,
        skip_special_tokens=not params.keep_special_tokens,
    )


def field_name(name: str) -> str:
    """How the gRPC doors spell a control."""
    return f"sampling.{name}"
