"""Choices that move to another worker after every token, against the same ones left in peace.

`python -m tests.decode.resume [--choices N] [--seed S]` tries at least N random choices and stops at the
first that differs. The requests come from a gateway's own code, the tokens from decode engines' over a model
without weights: one engine works in step, one is ahead of its host, one gives five tokens a step.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import structlog
from prometheus_client import CollectorRegistry

from perigee.v1 import decode_pb2, sampling_pb2
from services.common.errors import WorkerLost
from services.decode.constraint.maker import ConstraintMaker
from services.families.conversation import Conversation, Message, TextPart
from services.families.kimi.chat_format import KimiChat
from services.families.kimi.family import KIMI
from services.families.kimi.sampling_defaults import RAW
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.output import CallRules
from services.gateway.admission import Ticket
from services.gateway.constraint.builder import ConstraintBuilder
from services.gateway.constraint.output_format import JsonAnswer, OutputFormat, RegexAnswer
from services.gateway.metrics import GatewayMetrics
from services.gateway.pipeline.failover_policy import FailoverPolicy
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.output.answer import Answer, ChoiceAnswer
from services.gateway.pipeline.output.call_validator import CallValidator
from services.gateway.pipeline.output.choices import ChoiceMaker
from services.gateway.pipeline.prompt.prompt_usage import prompt_usage
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest, TokenPrompt
from services.gateway.pipeline.submission import Submission
from services.gateway.pipeline.token_source import TokenSource
from services.gateway.request_record import RequestRecord
from services.gateway.sampling import resolve
from services.gateway.workers.router import PromptPages
from tests.support.babbler import VOCAB
from tests.support.burst_stepper import BurstStepper
from tests.support.loopback import LoopbackRouter, LoopbackWorker

NANO = Path(__file__).resolve().parents[1] / "data" / "kimi-nano"
POLICY = FailoverPolicy(first_token_s=60.0, token_s=60.0, worker_wait_s=10.0, max_failovers=1)
LENGTH = sampling_pb2.FINISH_REASON_LENGTH
SHARED = 64
"""Tokens that all prompts begin with: a page that workers may have cached."""

TEXT = {"type": "string", "maxLength": 40}
SCHEMA = {
    "type": "object",
    "properties": {
        "a": TEXT,
        "b": {"type": "array", "items": {"type": "integer"}},
        "c": {"enum": ["red", "green"]},
    },
    "required": ["a", "b", "c"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
FORMATS = {
    "free": OutputFormat(),
    "json": OutputFormat(answer=JsonAnswer(SCHEMA, "response_format")),
    "regex": OutputFormat(answer=RegexAnswer("([a-z]{3,9} )+[0-9]{2}", "regex")),
    "auto": OutputFormat("auto"),
    "required": OutputFormat("required"),
    "call or json": OutputFormat("auto", answer=JsonAnswer(SCHEMA, "response_format")),
}
STOPS = (("e",), ("th", "qu"), ("  ",), ('"}',), ("zzzz",), ("a", "0", "\n"))


@dataclass(frozen=True)
class Case:
    """One request; `warm`: workers have the first page of its prompt."""

    kind: str
    prompt: tuple[int, ...]
    request: GenerationRequest
    max_tokens: int
    warm: bool


class MovingInbox:
    """Has a worker fail behind every token that does not end its choice."""

    idle = False

    def __init__(self, news, moved: Counter) -> None:
        self._news = news
        self._moved = moved

    def put(self, news) -> None:
        stream, item = news
        self._news.put(news)
        if not isinstance(item, Exception) and item.token_ids and not item.finish_reason:
            self._moved["moves"] += 1
            self._news.put((stream, WorkerLost("moved")))


class Trial:
    """Three workers, one of which gives five tokens a step; requests are left in peace or moved."""

    def __init__(self) -> None:
        self.moved: Counter = Counter()
        self.tokenizer = KimiTokenizer.from_dir(NANO)
        self._grammars = ConstraintMaker(partial(KIMI.read_grammar_tokens, NANO), VOCAB)
        chat = KimiChat(self.tokenizer)
        self._formats = [ConstraintBuilder(chat, closes_calls=closes) for closes in (False, True)]
        self._choices = ChoiceMaker(chat, reasoning=True, tool_calls=True)
        self._metrics = GatewayMetrics(CollectorRegistry())
        self._runs = 0

    async def __aenter__(self) -> Trial:
        self._stack = AsyncExitStack()
        self._stack.callback(self._grammars.close)
        for formats in self._formats:
            self._stack.callback(formats.close)
        self._workers = [
            LoopbackWorker("w:1", self._grammars),
            LoopbackWorker("w:2", self._grammars, ahead=True),
            LoopbackWorker("w:3", self._grammars, stepper=partial(BurstStepper, burst=5)),
        ]
        for worker in self._workers:
            await worker.open()
            self._stack.push_async_callback(worker.close)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def answer(self, case: Case, *, moving: bool = False, worker: int | None = None) -> Answer:
        """What a client gets; `worker`: from this one alone."""
        self._runs += 1
        salt = f"run-{self._runs}"
        if case.warm:
            short = replace(
                case.request,
                prompt=TokenPrompt(()),
                sampling=sampling_pb2.SamplingParams(),
                output=OutputFormat(),
            )
            for each in self._workers:
                page = replace(case, prompt=case.prompt[: SHARED + 1], request=short, max_tokens=1)
                await self._ask(page, salt, LoopbackRouter([each], lambda one: one.session))
        workers = self._workers if worker is None else [self._workers[worker]]
        router = LoopbackRouter(workers, self._mover if moving else lambda worker: worker.session)
        return await self._ask(case, salt, router)

    def _mover(self, worker: LoopbackWorker) -> SimpleNamespace:
        def submit(message, news):
            return worker.session.submit(message, MovingInbox(news, self.moved))

        return SimpleNamespace(submit=submit)

    async def _ask(self, case: Case, salt: str, router: LoopbackRouter) -> Answer:
        request = case.request
        chat = request.prompt.conversation if isinstance(request.prompt, ChatPrompt) else None
        formats = self._formats[request.sampling.seed % 2]
        constraint = await formats.build(request.output, chat)
        submit = decode_pb2.Submit(
            request_id="req-trial",
            prompt_token_ids=case.prompt,
            sampling=resolve(request.sampling, RAW, case.max_tokens, self.tokenizer.stop_ids),
            cache_salt=salt,
            constraint=constraint.proto,
        )
        record = RequestRecord()
        submission = Submission(submit, (), PromptPages(len(case.prompt)), time.monotonic() + 600, record)
        source = TokenSource(submission, router, None, POLICY, lambda: None)
        ticket = Ticket(self._metrics, record)
        calls = CallRules(accept=CallValidator(constraint.checks, lambda: None), streamed=constraint.streamed)
        choices = self._choices.make(request, calls)
        generation = Generation(None, source, choices, prompt_usage(submit, ()), ticket)
        try:
            await source.open()
            return await generation.answer()
        finally:
            generation.close()


def random_case(number: random.Random, tokenizer: KimiTokenizer, kind: str) -> Case:
    """Everything on, each with a chance: what ends a choice early has a bias to come."""
    special = tokenizer.special
    ends = (special.im_end, special.eos, special.end_think, special.tool_calls_section_begin)
    max_tokens = number.choice((1, 6, 12, 25, 40, 60))
    stop_ids = tuple(number.sample(range(300, 2000), 2)) if number.random() < 0.4 else ()
    bias = {each: number.uniform(4, 8) for each in (*ends, *stop_ids) if number.random() < 0.4}
    top_logprobs = number.choice((None, None, 0, 3))
    sampling = sampling_pb2.SamplingParams(
        temperature=number.choice((0.0, 0.7, 1.0)),
        top_p=number.choice((1.0, 0.9)),
        top_k=number.choice((0, 0, 40)),
        min_p=number.choice((0.0, 0.05)),
        presence_penalty=number.choice((0.0, 0.7)),
        frequency_penalty=number.choice((0.0, -0.5, 0.8)),
        repetition_penalty=number.choice((None, 1.3)),
        logit_bias=bias,
        seed=number.getrandbits(64),
        n=number.choice((1, 2, 3)),
        min_tokens=min(max_tokens, number.choice((0, 0, 4, 15))),
        ignore_eos=number.random() < 0.2,
        stop_token_ids=stop_ids,
        stop=number.choice(STOPS) if number.random() < 0.4 else (),
        logprobs=top_logprobs is not None,
        top_logprobs=top_logprobs or 0,
        keep_special_tokens=number.random() >= 0.8,
    )
    shared = random.Random(0).choices(range(256, 2000), k=SHARED)
    body = number.choices(range(256, 2000), k=number.randrange(1, 40))
    raw = kind in ("free", "json", "regex") and number.random() < 0.5
    tail = [] if raw else [special.im_assistant, 300, special.im_middle, special.think]
    chat = ChatPrompt(Conversation((Message("user", (TextPart("Hi"),)),), (TOOL,)))
    request = GenerationRequest(
        model="nano",
        prompt=TokenPrompt(()) if raw else chat,
        sampling=sampling,
        field_name=lambda name: name,
        prompt_param="messages",
        output=replace(FORMATS[kind], tool_choice="none")
        if kind in ("free", "json", "regex")
        else FORMATS[kind],
    )
    return Case(kind, (*shared, *body, *tail), request, max_tokens, warm=number.random() < 0.25)


def differences(peace: Answer, moved: Answer) -> list[str]:
    """What is not the same, by name."""
    found = [f"usage: {peace.usage} != {moved.usage}"] if peace.usage != moved.usage else []
    for one, other in zip(peace.choices, moved.choices, strict=True):
        found += [
            f"choice {one.index}: {name}: {value!r} != {vars(other)[name]!r}"
            for name, value in vars(one).items()
            if value != vars(other)[name]
        ]
    return found


def is_closed_in_haste(choice: ChoiceAnswer, max_tokens: int) -> bool:
    """Whether its grammar ended before the tokens did, and not as the model would have had it."""
    return choice.finish_reason == LENGTH and len(choice.token_ids) < max_tokens


async def compare(choices: int, seed: int, kinds: Sequence[str] = tuple(FORMATS)) -> Counter:
    """Counts what was tried; AssertionError, with the case, at the first difference."""
    seen: Counter = Counter()
    async with Trial() as trial:
        while seen["choices"] < choices:
            number = random.Random(f"{seed}-{seen['requests']}")
            case = random_case(number, trial.tokenizer, kinds[seen["requests"] % len(kinds)])
            peace = await trial.answer(case)
            moved = await trial.answer(case, moving=True)
            found = differences(peace, moved)
            assert not found, f"case {seed}-{seen['requests']} ({case}):\n" + "\n".join(found)
            seen["requests"] += 1
            seen["choices"] += len(peace.choices)
            seen["tokens"] += sum(len(choice.token_ids) for choice in peace.choices)
            for choice in peace.choices:
                seen["closed in haste"] += is_closed_in_haste(choice, case.max_tokens)
                seen[f"{case.kind}: {sampling_pb2.FinishReason.Name(choice.finish_reason)[14:].lower()}"] += 1
        seen["moves"] = trial.moved["moves"]
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--choices", type=int, default=2000, help="at least so many")
    parser.add_argument("--seed", type=int, default=1, help="other numbers give other choices")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    began = time.monotonic()
    seen = asyncio.run(compare(arguments.choices, arguments.seed))
    for name, count in sorted(seen.items()):
        print(f"{count:8,} {name}")
    print(f"no difference, {time.monotonic() - began:.0f} s, seed {arguments.seed}")


if __name__ == "__main__":
    main()
