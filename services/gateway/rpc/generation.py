"""GenerationService: the text and token door, and the tokenizer."""

from __future__ import annotations

from collections.abc import AsyncIterator

from perigee.v1 import generation_pb2, generation_pb2_grpc
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.output.answer import ChoiceAnswer
from services.gateway.pipeline.output.events import ChoiceDelta
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.prompt.tokenizing import Tokenizing
from services.gateway.pipeline.request import TextPrompt
from services.gateway.rpc.calls import Calls, Context
from services.gateway.rpc.translate import request_from_generate, translated

_PROMPT_TOKENS = 256
"""Tokens of a prompt in a chunk, with 20 alternatives each some 200 KiB."""


class GenerationServicer(generation_pb2_grpc.GenerationServiceServicer):
    """Generation walks the pipeline without template and reasoning split."""

    def __init__(self, pipeline: Pipeline, calls: Calls, tokenizing: Tokenizing, silence_s: float) -> None:
        """`silence_s`: after so many seconds a stream begins even if no worker has accepted it."""
        self._silence_s = silence_s
        self._pipeline = pipeline
        self._calls = calls
        self._tokenizing = tokenizing

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Context
    ) -> generation_pb2.GenerateResponse:
        async with self._calls.enter(context, "GenerationService/Generate") as ticket:
            call = await translated(request_from_generate, request, context.time_remaining())
            async with self._pipeline.open(call, ticket) as generation:
                answer = await generation.answer()
        return generation_pb2.GenerateResponse(
            id=generation.head.id,
            choices=[_choice(choice) for choice in answer.choices],
            usage=answer.usage,
            prompt_logprobs=answer.prompt,
        )

    async def StreamGenerate(
        self, request: generation_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[generation_pb2.GenerateChunk | None]:
        async with self._calls.enter(context, "GenerationService/StreamGenerate") as ticket:
            call = await translated(request_from_generate, request, context.time_remaining())
            async with self._pipeline.open(call, ticket) as generation:
                await generation.accepted(self._silence_s)
                yield None  # the call begins
                prompt_sent = False
                async for delta in generation:
                    if not prompt_sent:
                        prompt_sent = True
                        async for piece in _prompt(generation):
                            yield piece
                    yield generation_pb2.GenerateChunk(id=generation.head.id, deltas=[_choice(delta)])
                yield generation_pb2.GenerateChunk(id=generation.head.id, usage=generation.usage)

    async def Tokenize(
        self, request: generation_pb2.TokenizeRequest, context: Context
    ) -> generation_pb2.TokenizeResponse:
        async with self._calls.enter(context, "GenerationService/Tokenize"):
            prompt = TextPrompt(request.text, request.parse_special)
            made = await self._tokenizing.tokenize(request.model, prompt, request.ByteSize(), "text")
        return generation_pb2.TokenizeResponse(token_ids=made.token_ids)

    async def Detokenize(
        self, request: generation_pb2.DetokenizeRequest, context: Context
    ) -> generation_pb2.DetokenizeResponse:
        async with self._calls.enter(context, "GenerationService/Detokenize"):
            text = await self._tokenizing.detokenize(
                request.model, request.token_ids, request.ByteSize(), "token_ids", request.skip_special
            )
        return generation_pb2.DetokenizeResponse(text=text)


async def _prompt(generation: Generation) -> AsyncIterator[generation_pb2.GenerateChunk]:
    """Yields the log-probabilities of the prompt, in pieces of bounded size."""
    tokens = await generation.prompt_logprobs()
    for start in range(0, len(tokens), _PROMPT_TOKENS):
        piece = tokens[start : start + _PROMPT_TOKENS]
        yield generation_pb2.GenerateChunk(id=generation.head.id, prompt_logprobs=piece)


def _choice(choice: ChoiceAnswer | ChoiceDelta) -> generation_pb2.GenerateChoice:
    return generation_pb2.GenerateChoice(
        index=choice.index,
        text=choice.content,
        token_ids=choice.token_ids,
        finish_reason=choice.finish_reason,
        logprobs=choice.logprobs,
    )
