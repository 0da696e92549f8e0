"""POST /generate: SGLang's own route, which its benchmarks and its language speak."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from msgspec import UNSET

from services.common.errors import InvalidRequest
from services.gateway.admission import Ticket
from services.gateway.http.answers.generate_answer import GenerateAnswerBuilder
from services.gateway.http.answers.reply import Reply
from services.gateway.http.bodies.decoder import BodyDecoder, in_thread_if_long
from services.gateway.http.bodies.generate import (
    GenerateBody,
    GenerateParams,
    field_name,
    per_prompt,
    refuse_unsupported_generate,
    sampling_of,
)
from services.gateway.http.bodies.output_format import raw_output_format
from services.gateway.http.bodies.prompt_logprobs import sglang_prompt_logprobs
from services.gateway.http.bodies.raw_prompts import RawPrompt, text_prompts, token_prompts
from services.gateway.http.shapes.generate import GenerateAnswer
from services.gateway.pipeline.batch import Batch, BatchPipeline
from services.gateway.pipeline.output.events import ChoiceDelta
from services.gateway.pipeline.request import GenerationRequest
from services.gateway.served_model import ServedModel


@dataclass(frozen=True)
class _Call:
    """A parsed request. `single`: the answer is one object, not a list; `names`: one per prompt, empty
    where the caller gave none.
    """

    requests: list[GenerationRequest]
    single: bool
    stream: bool
    named: bool
    names: list[str]


class GenerateEndpoint:
    """Answers /generate bodies. A stream's events are cumulative; of several choices each has its `index`."""

    def __init__(self, batches: BatchPipeline, model: ServedModel) -> None:
        self._batches = batches
        self._tokenizer = model.tokenizer
        self._vocab_size = model.vocab_size
        self._decoder = BodyDecoder(GenerateBody)

    async def answer(self, body: bytes, ticket: Ticket, reply: Reply) -> None:
        """Raises what the pipeline raises, and InvalidRequest for a body that is none."""
        call = await in_thread_if_long(self._call, body)
        async with self._batches.open(call.requests, ticket) as batch:
            answers = self._answers(call, batch)
            if call.stream:
                await self._stream(call, batch, answers, reply)
                return
            async with aclosing(self._fed(call, batch, answers)) as deltas:
                async for _ in deltas:
                    pass
        whole = [answer.answer() for answer in answers]
        await reply.json(whole[0] if call.single else whole)

    async def _stream(
        self, call: _Call, batch: Batch, answers: list[GenerateAnswerBuilder], reply: Reply
    ) -> None:
        """Nothing is sent until no worker refuses the request any more, so that a refusal has a status."""

        def event(index: int) -> GenerateAnswer:
            return answers[index].answer(UNSET if call.single else index)

        def empty() -> GenerateAnswer:
            return event(next((i for i, answer in enumerate(answers) if not answer.finished), 0))

        await batch.accepted(reply.keep_alive.seconds)
        await reply.start_events(empty)
        async with aclosing(self._fed(call, batch, answers)) as fed:
            async for prompt, delta, index in fed:
                # Once a choice has ended, its last delta says all that those on their way before it would.
                if delta.finish_reason and batch.all_ended:
                    reply.join_last()
                if delta.finish_reason or not batch.generations[prompt].ended(delta.index):
                    await reply.event(event(index))
        await reply.end_events()

    async def _fed(
        self, call: _Call, batch: Batch, answers: list[GenerateAnswerBuilder]
    ) -> AsyncGenerator[tuple[int, ChoiceDelta, int], None]:
        """Adds each delta to its answer, then yields its prompt, the delta and the answer's index."""
        first = list(accumulate((request.choices for request in call.requests), initial=0))
        unfed = {index for index, request in enumerate(call.requests) if request.prompt_logprobs is not None}
        async with aclosing(batch.deltas()) as deltas:
            async for prompt, delta in deltas:
                index = first[prompt] + delta.index
                if prompt in unfed:
                    unfed.discard(prompt)
                    tokens = await batch.generations[prompt].prompt_logprobs()
                    for answer in answers[first[prompt] : first[prompt + 1]]:
                        answer.feed_prompt(tokens)
                answers[index].feed(delta)
                yield prompt, delta, index

    def _answers(self, call: _Call, batch: Batch) -> list[GenerateAnswerBuilder]:
        """One per choice, prompt by prompt."""
        asked = zip(batch.generations, call.requests, call.names, strict=True)
        return [
            GenerateAnswerBuilder(
                self._tokenizer, generation, request.sampling, name or generation.head.id, named=call.named
            )
            for generation, request, name in asked
            for _ in range(request.choices)
        ]

    def _call(self, body: bytes) -> _Call:
        given = self._decoder.decode(body)
        refuse_unsupported_generate(given)
        prompts = _prompts(given)
        count = len(prompts)
        params = per_prompt(given.sampling_params, count, "sampling_params")
        logprobs = per_prompt(given.return_logprob, count, "return_logprob")
        tops = per_prompt(given.top_logprobs_num, count, "top_logprobs_num")
        starts = per_prompt(given.logprob_start_len, count, "logprob_start_len")
        names = per_prompt(given.rid, count, "rid")
        requests = []
        for index, (prompt, param) in enumerate(prompts):
            where = (
                f"sampling_params[{index}]" if isinstance(given.sampling_params, list) else "sampling_params"
            )
            own = params[index] or GenerateParams()
            name = partial(field_name, where)
            requests.append(
                GenerationRequest(
                    model=given.model or "",
                    prompt=prompt,
                    sampling=sampling_of(
                        own, where, self._vocab_size, name, tops[index], logprobs=bool(logprobs[index])
                    ),
                    field_name=name,
                    prompt_param=param,
                    cache_salt=given.cache_salt or "",
                    priority=given.priority or 0,
                    output=raw_output_format(None, own.json_schema, own.regex, own.ebnf, f"{where}."),
                    prompt_logprobs=sglang_prompt_logprobs(
                        starts[index], tops[index], "logprob_start_len", logprobs=bool(logprobs[index])
                    ),
                )
            )
        return _Call(
            requests=requests,
            single=count == 1 and prompts[0][1] in ("text", "input_ids") and requests[0].choices == 1,
            stream=bool(given.stream),
            named=bool(given.return_text_in_logprobs),
            names=[name or "" for name in names],
        )


def _prompts(given: GenerateBody) -> list[tuple[RawPrompt, str]]:
    if (given.text is None) == (given.input_ids is None):
        raise InvalidRequest("exactly one of text and input_ids must be given", "text")
    if given.text is not None:
        return text_prompts(given.text, "text", parse=bool(given.parse_special))
    return token_prompts(given.input_ids or (), "input_ids")
