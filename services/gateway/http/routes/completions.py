"""POST /v1/completions: OpenAI's older route, prompts without a chat template."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType

from msgspec import UNSET, UnsetType

from perigee.v1 import sampling_pb2
from services.gateway.admission import Ticket
from services.gateway.http.answers.completion_logprobs import CompletionLogprobsBuilder, joined
from services.gateway.http.answers.openai import usage
from services.gateway.http.answers.prompt_logprobs import PromptTokens, in_thread_if_many, prompt_logprobs
from services.gateway.http.answers.reply import Reply
from services.gateway.http.answers.usage_options import UsageOptions
from services.gateway.http.bodies.completions import (
    DEFAULT_MAX_TOKENS,
    CompletionBody,
    refuse_unsupported_completion,
)
from services.gateway.http.bodies.decoder import BodyDecoder, in_thread_if_long
from services.gateway.http.bodies.fields.sampling import params_of
from services.gateway.http.bodies.output_format import raw_output_format
from services.gateway.http.bodies.prompt_logprobs import openai_prompt_logprobs
from services.gateway.http.bodies.raw_prompts import RawPrompt, any_prompts
from services.gateway.http.bodies.unsupported import refuse_stream_options_alone
from services.gateway.http.shapes.completion import (
    CompletionAnswer,
    CompletionChoice,
    CompletionLogprobs,
    TextFinish,
)
from services.gateway.http.shapes.prompt_logprobs import PromptLogprobsAnswer
from services.gateway.http.shapes.usage import UsageAnswer
from services.gateway.pipeline.batch import Batch, BatchPipeline
from services.gateway.pipeline.output.answer import ChoiceAnswer
from services.gateway.pipeline.output.events import Completion
from services.gateway.pipeline.request import GenerationRequest, TextPrompt
from services.gateway.served_model import ServedModel

_FINISH: Mapping[int, TextFinish] = MappingProxyType(
    {sampling_pb2.FINISH_REASON_STOP: "stop", sampling_pb2.FINISH_REASON_LENGTH: "length"}
)


@dataclass(frozen=True)
class _Call:
    """A parsed request. `prompts`: those of `requests`; `echo`: they come before their texts; `choices`: per
    prompt; `keep_special`: special tokens are in the texts. `echoed_top`, `prompt_top`: how many
    alternatives an echoed prompt's log-probabilities have, and vLLM's; None: these are not wanted.
    """

    requests: list[GenerationRequest]
    prompts: list[RawPrompt]
    echo: bool
    choices: int
    keep_special: bool
    echoed_top: int | None
    prompt_top: int | None
    stream: bool
    usage: UsageOptions


class CompletionEndpoint:
    """Answers completion bodies. Choice c of prompt p has the index p * n + c."""

    def __init__(self, batches: BatchPipeline, model: ServedModel) -> None:
        self._batches = batches
        self._tokenizer = model.tokenizer
        self._vocab_size = model.vocab_size
        self._decoder = BodyDecoder(CompletionBody)

    async def answer(self, body: bytes, ticket: Ticket, reply: Reply) -> None:
        """Raises what the pipeline raises, and InvalidRequest for a body that is none."""
        call = await in_thread_if_long(self._call, body)
        async with self._batches.open(call.requests, ticket) as batch:
            if call.stream:
                await self._stream(call, batch, reply)
            else:
                await reply.json(await self._whole(call, batch))

    def _call(self, body: bytes) -> _Call:
        given = self._decoder.decode(body)
        sampling = params_of(
            given,
            "openai",
            self._vocab_size,
            _field_name,
            max_tokens=DEFAULT_MAX_TOKENS if given.max_tokens is None else given.max_tokens,
            logprobs=given.logprobs is not None,
            top_logprobs=given.logprobs,
        )
        choices = sampling.n or 1
        refuse_unsupported_completion(given, choices)
        refuse_stream_options_alone(given.stream_options, given.stream)
        prompts = any_prompts(given.prompt, "prompt", parse=bool(given.parse_special))
        output = raw_output_format(given.response_format, given.json_schema, given.regex, given.ebnf)
        echoed_top = given.logprobs if given.echo else None
        wanted = openai_prompt_logprobs(given.prompt_logprobs, echoed=echoed_top, stream=bool(given.stream))
        requests = [
            GenerationRequest(
                model=given.model or "",
                prompt=prompt,
                sampling=sampling,
                field_name=_field_name,
                prompt_param=param,
                cache_salt=given.cache_salt or "",
                priority=given.priority or 0,
                output=output,
                prompt_logprobs=wanted,
            )
            for prompt, param in prompts
        ]
        return _Call(
            requests=requests,
            prompts=[prompt for prompt, _ in prompts],
            echo=bool(given.echo),
            choices=choices,
            keep_special=sampling.keep_special_tokens,
            echoed_top=echoed_top,
            prompt_top=given.prompt_logprobs,
            stream=bool(given.stream),
            usage=UsageOptions.of(given.stream_options),
        )

    def _echoes(self, call: _Call) -> list[str]:
        """The text echoed before each prompt's completion."""
        if not call.echo:
            return [""] * len(call.prompts)
        return [
            prompt.text
            if isinstance(prompt, TextPrompt)
            else self._tokenizer.decode(prompt.token_ids, skip_flagged=not call.keep_special)
            for prompt in call.prompts
        ]

    async def _whole(self, call: _Call, batch: Batch) -> CompletionAnswer:
        answers = await batch.answers()
        choices = []
        for index, (echo, answer) in enumerate(zip(self._echoes(call), answers, strict=True)):
            shown: PromptLogprobsAnswer | UnsetType = UNSET
            if call.prompt_top is not None:
                shown = await in_thread_if_many(prompt_logprobs, answer.prompt, call.prompt_top)
            choices += [
                CompletionChoice(
                    index * call.choices + choice.index,
                    echo + choice.content,
                    await self._whole_logprobs(call, index, answer.prompt, choice),
                    _FINISH[choice.finish_reason],
                    shown,
                )
                for choice in answer.choices
            ]
        return _answer(batch, choices, usage(batch.usage))

    async def _whole_logprobs(
        self, call: _Call, index: int, prompt: PromptTokens, choice: ChoiceAnswer
    ) -> CompletionLogprobs | None:
        """`index`, `prompt`: of the choice's prompt, and its tokens."""
        builder = self._logprobs(call, index)
        if call.echoed_top is None:
            return builder.of(choice.logprobs)
        echoed = await in_thread_if_many(builder.echoed, prompt, call.echoed_top)
        return joined(echoed, builder.of(choice.logprobs))

    async def _stream(self, call: _Call, batch: Batch, reply: Reply) -> None:
        """Nothing is sent until no worker refuses the request any more, so that a refusal has a status."""

        count = call.choices

        def empty() -> CompletionAnswer:
            prompt = batch.first_running
            index = prompt * count + batch.generations[prompt].first_running
            return _answer(batch, [CompletionChoice(index, "", None, None)], call.usage.in_chunk(batch))

        logprobs = [self._logprobs(call, index // count) for index in range(count * len(call.requests))]
        unsaid = dict(enumerate(echo for echo in self._echoes(call) for _ in range(count)))
        await batch.accepted(reply.keep_alive.seconds)
        await reply.start_events(empty)
        async with aclosing(batch.deltas()) as deltas:
            async for prompt, delta in deltas:
                index = prompt * count + delta.index
                if call.echoed_top is not None and index in unsaid:
                    tokens = await batch.generations[prompt].prompt_logprobs()
                    echoed = await in_thread_if_many(logprobs[index].echoed, tokens, call.echoed_top)
                    first = CompletionChoice(index, unsaid.pop(index), echoed, None)
                    await reply.event(_answer(batch, [first], call.usage.in_chunk(batch)))
                text = unsaid.pop(index, "") + delta.content
                finish = _FINISH[delta.finish_reason] if delta.finish_reason else None
                shown = logprobs[index].of(delta.logprobs)
                if finish and batch.all_ended:
                    reply.join_last()
                for choice in _pieces(index, text, shown, finish):
                    await reply.event(_answer(batch, [choice], call.usage.in_chunk(batch)))
        if call.usage.include:
            await reply.event(_answer(batch, [], usage(batch.usage)))
        await reply.end_events()

    def _logprobs(self, call: _Call, prompt: int) -> CompletionLogprobsBuilder:
        """`prompt`: its index."""
        return CompletionLogprobsBuilder(
            self._tokenizer,
            skip_special=not call.keep_special,
            verbatim_prompt=isinstance(call.prompts[prompt], TextPrompt),
        )


def _answer(
    batch: Batch, choices: list[CompletionChoice], usage: UsageAnswer | UnsetType | None
) -> CompletionAnswer:
    """A whole answer or an event; both begin alike."""
    head: Completion = batch.generations[0].head
    return CompletionAnswer(head.id, "text_completion", head.created, head.model, choices, usage)


def _pieces(
    index: int, text: str, logprobs: CompletionLogprobs | None, finish: TextFinish | None
) -> list[CompletionChoice]:
    """Yields the new parts of a choice, one per event; the finish comes without text, not even an echo."""
    if finish is None:
        return [CompletionChoice(index, text, logprobs, None)] if text or logprobs else []
    last = CompletionChoice(index, "", logprobs, finish)
    return [CompletionChoice(index, text, None, None), last] if text else [last]


def _field_name(name: str) -> str:
    return "logprobs" if name == "top_logprobs" else name
