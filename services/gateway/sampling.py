"""Sampling controls of a request: rules between them, and the form the decode worker gets."""

from __future__ import annotations

import secrets

from perigee.v1 import sampling_pb2
from services.common.errors import InvalidRequest
from services.common.sampling.control import AppliesTo, Range
from services.common.sampling.controls import CONTROLS
from services.common.sampling.params import FieldName, check_callers, fill_defaults
from services.families.sampling_defaults import SamplingDefaults

_OF_TEXT = tuple(control.name for control in CONTROLS if control.applies_to is AppliesTo.TEXT)


def check_sampling(params: sampling_pb2.SamplingParams, vocab_size: int, name: FieldName) -> None:
    """Raises InvalidRequest naming the first control that is out of its range or does not fit another one."""
    check_callers(params, vocab_size, name)
    if params.HasField("max_tokens"):
        Range(0, params.max_tokens).check(params.min_tokens, name("min_tokens"))
    if params.top_logprobs and not params.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true", name("top_logprobs"))


def resolve(
    params: sampling_pb2.SamplingParams, defaults: SamplingDefaults, max_tokens: int, stop_ids: frozenset[int]
) -> sampling_pb2.SamplingParams:
    """The explicit form a Submit carries: every default filled in, a seed drawn if none was given.

    `max_tokens`: what is left of the context, or less. `stop_ids`: the tokenizer's, which end a choice unless
    ignore_eos. Controls of the text are left out: the gateway applies them.
    """
    explicit = sampling_pb2.SamplingParams()
    explicit.CopyFrom(params)
    for name in _OF_TEXT:
        explicit.ClearField(name)  # type: ignore[arg-type]
    fill_defaults(explicit, vars(defaults))
    explicit.max_tokens = max_tokens
    explicit.min_tokens = min(explicit.min_tokens, max_tokens)
    if not explicit.HasField("seed"):
        explicit.seed = secrets.randbits(64)
    explicit.stop_token_ids[:] = sorted(end_ids(params, stop_ids))
    return explicit


def end_ids(params: sampling_pb2.SamplingParams, stop_ids: frozenset[int]) -> set[int]:
    """Token ids that end a choice; `stop_ids`: the tokenizer's."""
    return {*params.stop_token_ids, *(() if params.ignore_eos else stop_ids)}
