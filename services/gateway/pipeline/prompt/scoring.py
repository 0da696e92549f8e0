"""Which tokens of a prompt are scored."""

from __future__ import annotations

from perigee.v1 import decode_pb2
from services.common.errors import InvalidRequest
from services.gateway.pipeline.request import PromptLogprobs
from services.gateway.workers.stream.prompt_scores import PromptScores

MOST_LOGPROBS = 262_144
"""For all prompts of one call, alternatives included: bounds the answer to about 20 MiB."""


def ask_scores(wanted: PromptLogprobs, submit: decode_pb2.Submit) -> PromptScores:
    """Puts what is wanted into `submit`, whose prompt is there; returns where the scores go.

    Raises InvalidRequest for a first token that is not in the prompt, and for too many log-probabilities.
    """
    num_tokens = len(submit.prompt_token_ids)
    if wanted.first >= num_tokens:
        raise InvalidRequest(
            f"{wanted.first_param} is {wanted.first}; the prompt has {num_tokens} tokens", wanted.first_param
        )
    check_count(wanted.count(num_tokens), wanted.param)
    first = max(1, wanted.first)  # nothing predicts token 0
    if first < num_tokens:
        submit.scoring.first_token = first
        submit.scoring.top = wanted.top
    return PromptScores(first, num_tokens - first, wanted.top)


def check_count(count: int, param: str) -> None:
    """Raises InvalidRequest if so many log-probabilities are too many for one call."""
    if count > MOST_LOGPROBS:
        raise InvalidRequest(
            f"{count} log-probabilities of prompts are wanted, alternatives included; at most {MOST_LOGPROBS}"
            " are computed in a call",
            param,
        )
