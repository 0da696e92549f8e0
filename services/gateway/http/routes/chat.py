"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from services.gateway.admission import Ticket
from services.gateway.http.answers import openai as shape
from services.gateway.http.answers.chunks import ChunkEncoder
from services.gateway.http.answers.prompt_logprobs import in_thread_if_many, prompt_logprobs
from services.gateway.http.answers.reply import Reply
from services.gateway.http.answers.text_events import TokenTexts
from services.gateway.http.answers.usage_options import UsageOptions
from services.gateway.http.bodies.chat import ChatBody
from services.gateway.http.bodies.decoder import BodyDecoder, in_thread_if_long
from services.gateway.http.bodies.to_request import request_from_body
from services.gateway.http.shapes.chat import ChatAnswer, ReasoningField
from services.gateway.http.shapes.prompt_logprobs import PromptLogprobsAnswer
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.request import GenerationRequest
from services.gateway.served_model import ServedModel


@dataclass(frozen=True)
class _Call:
    """A parsed request."""

    request: GenerationRequest
    stream: bool
    usage: UsageOptions


class _EventSink:
    """Plain tokens become events at once."""

    def __init__(self, chunks: ChunkEncoder, reply: Reply, texts: TokenTexts) -> None:
        self._chunks = chunks
        self._reply = reply
        self._texts = texts

    def writer(self, choice: int, *, reasoning: bool) -> Callable[[int], bool] | None:
        """See Sink."""
        if not self._chunks.alike:
            return None
        before, after = self._chunks.around(choice, is_content=not reasoning)
        events = self._reply.text_events(self._texts, before, after)
        return events.write if events is not None else None


class ChatEndpoint:
    """Answers chat bodies, streaming or not, through the pipeline."""

    def __init__(
        self, pipeline: Pipeline, model: ServedModel, reasoning: ReasoningField = "reasoning_content"
    ) -> None:
        """`reasoning`: the name that reasoning has in answers."""
        self._pipeline = pipeline
        self._reasoning = reasoning
        self._vocab_size = model.vocab_size
        self._profile = model.profile
        self._texts = TokenTexts(model.tokenizer)
        self._decoder = BodyDecoder(ChatBody)

    async def answer(self, body: bytes, ticket: Ticket, reply: Reply) -> None:
        """Raises what the pipeline raises, and InvalidRequest for a body that is none."""
        call = await in_thread_if_long(self._call, body)
        async with self._pipeline.open(call.request, ticket) as generation:
            if not call.stream:
                await reply.json(await self._whole(call, generation))
                return
            await self._stream(call, generation, reply)

    def _call(self, body: bytes) -> _Call:
        decoded = self._decoder.decode(body)
        return _Call(
            request=request_from_body(decoded, self._vocab_size, self._profile),
            stream=bool(decoded.stream),
            usage=UsageOptions.of(decoded.stream_options),
        )

    async def _whole(self, call: _Call, generation: Generation) -> ChatAnswer:
        answer, wanted = await generation.answer(), call.request.prompt_logprobs
        prompt: PromptLogprobsAnswer | UnsetType = UNSET
        if wanted is not None:
            prompt = await in_thread_if_many(prompt_logprobs, answer.prompt, wanted.top)
        return shape.completion(generation.head, answer, self._reasoning, prompt)

    async def _stream(self, call: _Call, generation: Generation, reply: Reply) -> None:
        """Nothing is sent until no worker refuses the request any more, so that a refusal has a status."""
        chunks = ChunkEncoder(generation.head, call.usage, generation, self._reasoning)

        unbegun = list(range(call.request.choices))

        def empty() -> bytes:
            if unbegun:  # a choice's role precedes everything else of it
                return chunks.role(unbegun.pop(0))
            return chunks.empty(generation.first_running)

        await generation.accepted(reply.keep_alive.seconds)
        await reply.start_events(empty)
        generation.attach(_EventSink(chunks, reply, self._texts))
        async for delta in generation:
            while unbegun:
                await reply.event(chunks.role(unbegun.pop(0)))
            if generation.all_ended:
                reply.join_last()
            await reply.event(chunks.delta(delta))
        if call.usage.include:
            await reply.event(shape.usage_chunk(generation.head, generation.usage))
        await reply.end_events()
