"""The whole answer: the fold of its deltas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from perigee.v1 import generation_pb2, sampling_pb2
from services.families.conversation import ToolCall
from services.gateway.pipeline.output.events import ChoiceDelta


@dataclass
class ChoiceAnswer:
    """One choice, complete."""

    index: int
    token_ids: list[int] = field(default_factory=list)
    reasoning: str = ""
    content: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[sampling_pb2.PositionLogprobs] = field(default_factory=list)
    finish_reason: sampling_pb2.FinishReason.ValueType = sampling_pb2.FINISH_REASON_UNSPECIFIED


@dataclass(frozen=True)
class Answer:
    """All choices by index, what they cost, and the tokens of the prompt if they are wanted."""

    choices: tuple[ChoiceAnswer, ...]
    usage: sampling_pb2.Usage
    prompt: Sequence[generation_pb2.PromptTokenLogprob] = ()


async def fold(deltas: AsyncIterator[ChoiceDelta], n: int) -> tuple[ChoiceAnswer, ...]:
    """Appends every delta to its choice, to the end."""
    choices = tuple(ChoiceAnswer(index) for index in range(n))
    texts: list[tuple[list[str], list[str]]] = [([], []) for _ in range(n)]
    arguments: list[list[list[str]]] = [[] for _ in range(n)]
    async for delta in deltas:
        choice = choices[delta.index]
        choice.token_ids += delta.token_ids
        if delta.call is not None:
            if delta.call.name:
                choice.calls.append(ToolCall(delta.call.id, delta.call.name, ""))
                arguments[delta.index].append([])
            arguments[delta.index][-1].append(delta.call.arguments)
        choice.logprobs += delta.logprobs
        choice.finish_reason = delta.finish_reason or choice.finish_reason
        texts[delta.index][0].append(delta.reasoning)
        texts[delta.index][1].append(delta.content)
    for choice, (reasoning, content) in zip(choices, texts, strict=True):
        choice.reasoning, choice.content = "".join(reasoning), "".join(content)
        choice.calls = [
            replace(call, arguments="".join(parts))
            for call, parts in zip(choice.calls, arguments[choice.index], strict=True)
        ]
    return choices
