"""The fields with which a caller asks for log-probabilities of the prompt."""

from __future__ import annotations

from services.common.errors import InvalidRequest, UnsupportedValue
from services.common.sampling.controls import TOP_LOGPROBS
from services.gateway.pipeline.request import PromptLogprobs


def openai_prompt_logprobs(
    prompt_logprobs: int | None, *, echoed: int | None, stream: bool
) -> PromptLogprobs | None:
    """What OpenAI's routes are asked for: vLLM's field, the number of alternatives, and `echoed`, that of an
    echoed prompt whose log-probabilities are wanted.

    Raises InvalidRequest for a number out of range, UnsupportedValue for vLLM's field in a stream.
    """
    asked = []
    if echoed is not None:
        asked.append((echoed, "logprobs"))
    if prompt_logprobs is not None:
        TOP_LOGPROBS.check(prompt_logprobs, "prompt_logprobs")
        if stream:
            raise UnsupportedValue("prompt_logprobs are not part of a stream's events", "prompt_logprobs")
        asked.append((prompt_logprobs, "prompt_logprobs"))
    if not asked:
        return None
    top, param = max(asked)
    return PromptLogprobs(0, top, param, param)


def sglang_prompt_logprobs(
    start: int | None, top: int | None, param: str, *, logprobs: bool
) -> PromptLogprobs | None:
    """What /generate is asked for. `start`: the first token of the prompt that is wanted, -1 for none;
    `param`: its field; `top`: alternatives. Raises InvalidRequest for another negative number.
    """
    if start is None or start == -1 or not logprobs:
        return None
    if start < 0:
        raise InvalidRequest(f"{param} is {start}; it must be -1 or the index of a token", param)
    return PromptLogprobs(start, top or 0, param, "top_logprobs_num")
