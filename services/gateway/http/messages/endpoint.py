"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's protocol over the same pipeline as chats."""

from __future__ import annotations

from dataclasses import dataclass

from services.gateway.admission import Ticket
from services.gateway.http.answers.reply import Reply
from services.gateway.http.bodies.decoder import BodyDecoder, in_thread_if_long
from services.gateway.http.ignored import IgnoredFields
from services.gateway.http.messages.answer import whole_message
from services.gateway.http.messages.body import CountBody, MessagesBody
from services.gateway.http.messages.protocol import unknown_betas
from services.gateway.http.messages.shapes.events import MessageStop, Ping
from services.gateway.http.messages.shapes.message import CountAnswer
from services.gateway.http.messages.stream import MessageEvents
from services.gateway.http.messages.to_request import (
    hosted_tools,
    prompt_from_messages,
    request_from_messages,
)
from services.gateway.http.unknown_fields import UnknownFields
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.pipeline import Pipeline
from services.gateway.pipeline.prompt.tokenizing import Tokenizing
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest
from services.gateway.served_model import ServedModel


@dataclass(frozen=True)
class _Call:
    """A parsed request, and what of it is ignored."""

    request: GenerationRequest
    stream: bool
    unknown: list[str]
    hosted: list[str]


@dataclass(frozen=True)
class _Count:
    """A conversation to be counted. `num_bytes`: of the body, its images left out."""

    model: str
    prompt: ChatPrompt
    num_bytes: int
    unknown: list[str]
    hosted: list[str]


class MessagesEndpoint:
    """Both routes: they read a conversation alike, so that they count alike."""

    def __init__(
        self,
        pipeline: Pipeline,
        tokenizing: Tokenizing,
        model: ServedModel,
        ignored: IgnoredFields,
        *,
        drops_billing: bool,
    ) -> None:
        """`drops_billing`: whether system prompts lose their billing header."""
        self._pipeline = pipeline
        self._tokenizing = tokenizing
        self._model = model
        self._ignored = ignored
        self._drops_billing = drops_billing
        self._messages = BodyDecoder(MessagesBody)
        self._counted = BodyDecoder(CountBody)
        self._unknown = UnknownFields(MessagesBody)

    async def answer(self, body: bytes, ticket: Ticket, reply: Reply) -> None:
        """Raises what the pipeline raises, and InvalidRequest for a body that is none."""
        call = await in_thread_if_long(self._call, body)
        self._ignore(call, reply)
        async with self._pipeline.open(call.request, ticket) as generation:
            if call.stream:
                await self._stream(generation, reply)
                return
            answer = await generation.answer()
            matched = generation.matched_stop(0)
            await reply.json(whole_message(generation.head, answer.choices[0], answer.usage, matched))

    async def count(self, body: bytes, ticket: Ticket, reply: Reply) -> None:
        """Answers how many tokens the prompt has. Raises the InvalidRequest family naming the field."""
        call = await in_thread_if_long(self._count, body)
        self._ignore(call, reply)
        made = await self._tokenizing.tokenize(call.model, call.prompt, call.num_bytes, "messages")
        await reply.json(CountAnswer(len(made.token_ids)))

    def _call(self, body: bytes) -> _Call:
        given = self._messages.decode(body)
        request = request_from_messages(
            given, self._model.vocab_size, self._model.profile, drops_billing=self._drops_billing
        )
        return _Call(request, bool(given.stream), self._unknown.of(body), hosted_tools(given))

    def _count(self, body: bytes) -> _Count:
        given = self._counted.decode(body)
        prompt = prompt_from_messages(given, self._model.profile, drops_billing=self._drops_billing)
        num_bytes = len(body) - sum(len(medium.source) for medium in prompt.media)
        return _Count(given.model or "", prompt, num_bytes, self._unknown.of(body), hosted_tools(given))

    def _ignore(self, call: _Call | _Count, reply: Reply) -> None:
        names = {"field": call.unknown, "tool": call.hosted, "beta": unknown_betas(reply.asked)}
        reply.add_headers(self._ignored.header(names))

    async def _stream(self, generation: Generation, reply: Reply) -> None:
        """Nothing is sent until no worker refuses the request any more, so that a refusal has a status."""
        events = MessageEvents(generation)
        await generation.accepted(reply.keep_alive.seconds)
        await reply.start_events(Ping)
        begun = False
        async for delta in generation:
            if not begun:
                begun = True
                await reply.event(events.start())
            if generation.all_ended:
                reply.join_last()
            for event in events.of(delta):
                await reply.event(event)
        await reply.end_events(MessageStop())
