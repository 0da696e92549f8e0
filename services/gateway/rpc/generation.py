"""GenerationService: the text and token door, and the tokenizer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from perigee.v1 import generation_pb2, generation_pb2_grpc
from services.common.errors import InvalidRequest
from services.gateway.admission import Admission
from services.gateway.pipeline.answer import ChoiceAnswer
from services.gateway.pipeline.events import ChoiceDelta
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.rendering import encode_text
from services.gateway.rpc.context import Context
from services.gateway.rpc.translate import request_from_generate
from services.gateway.served_model import ServedModel


class GenerationServicer(generation_pb2_grpc.GenerationServiceServicer):
    """Generation walks the pipeline without template and reasoning split."""

    def __init__(self, pipeline: Pipeline, admission: Admission, model: ServedModel) -> None:
        self._pipeline = pipeline
        self._admission = admission
        self._model = model

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Context
    ) -> generation_pb2.GenerateResponse:
        with self._admission.enter("grpc") as ticket:
            call = request_from_generate(request, context.time_remaining())
            async with self._pipeline.open(call, ticket) as generation:
                answer = await generation.answer()
        return generation_pb2.GenerateResponse(
            id=generation.head.id, choices=[_choice(choice) for choice in answer.choices], usage=answer.usage
        )

    async def StreamGenerate(
        self, request: generation_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[generation_pb2.GenerateChunk]:
        with self._admission.enter("grpc") as ticket:
            call = request_from_generate(request, context.time_remaining())
            async with self._pipeline.open(call, ticket) as generation:
                async for delta in generation:
                    yield generation_pb2.GenerateChunk(id=generation.head.id, deltas=[_choice(delta)])
                yield generation_pb2.GenerateChunk(id=generation.head.id, usage=generation.usage)

    async def Tokenize(
        self, request: generation_pb2.TokenizeRequest, context: Context
    ) -> generation_pb2.TokenizeResponse:
        self._model.resolve(request.model)
        ids = await encode_text(self._model.tokenizer, request.text, parse_special=request.parse_special)
        return generation_pb2.TokenizeResponse(token_ids=ids)

    async def Detokenize(
        self, request: generation_pb2.DetokenizeRequest, context: Context
    ) -> generation_pb2.DetokenizeResponse:
        self._model.resolve(request.model)
        text = await asyncio.to_thread(self._detokenize, request.token_ids, request.skip_special)
        return generation_pb2.DetokenizeResponse(text=text)

    def _detokenize(self, token_ids: Sequence[int], skip_special: bool) -> str:
        tokenizer = self._model.tokenizer
        for index, token_id in enumerate(token_ids):
            if token_id >= tokenizer.vocab_size:
                raise InvalidRequest(
                    f"token_ids[{index}] is {token_id}; the vocabulary has {tokenizer.vocab_size} entries",
                    f"token_ids[{index}]",
                )
        return tokenizer.decode(token_ids, skip_flagged=skip_special)


def _choice(choice: ChoiceAnswer | ChoiceDelta) -> generation_pb2.GenerateChoice:
    return generation_pb2.GenerateChoice(
        index=choice.index,
        text=choice.content,
        token_ids=choice.token_ids,
        finish_reason=choice.finish_reason,
        logprobs=choice.logprobs,
    )
