"""However the tokens of an output come together, each event of its stream has one kind of news."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from msgspec import to_builtins

from perigee.v1 import sampling_pb2
from services.families.kimi.output.parser import KimiParser
from services.gateway.http.answers import openai as shape
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.output.answer import fold
from services.gateway.pipeline.output.choice import ChoiceDecoder
from services.gateway.pipeline.output.events import Completion
from services.gateway.workers.stream.token_delta import TokenDelta
from tests.families.kimi.output.outputs import encode_output, rules
from tests.gateway.tools import joined_calls

HEAD = Completion("chatcmpl-1", 1, "kimi")
STOP, LENGTH = sampling_pb2.FINISH_REASON_STOP, sampling_pb2.FINISH_REASON_LENGTH
WORDS = ("Hm", ", so", " the answer", "日本", "🦉", "é", "\n", " END", "EN", "D of it", "?!", "😀👩‍🚀")
CALLS = (
    '[C>functions.f:0[A>{"a": "日本"}<C]',
    "[C>f[A>{}<C]",
    "[C>functions.unknown:1[A>{}<C]",
    "[C>functions.f:2[A>{",
)
STOPS = ((), ("END",), ("日本", " the"), ("D of", "?!?"), ("\ufffd",))


class Source:
    """Gives lists of deltas that were written down."""

    failovers = 0

    def __init__(self, bursts):
        self._bursts = list(bursts)

    async def next(self):
        return self._bursts.pop(0)

    def finish(self, choice):
        pass


def some_output(draw, tokenizer):
    """Ids of reasoning, content and calls, some of each left out, some characters in halves."""

    def words():
        return "".join(draw.choices(WORDS, k=draw.randrange(6)))

    text = words() + draw.choice(("</think>", "</think>", "</think>", "", "<think></think>")) + words()
    if draw.random() < 0.5:
        text += f"[S>{''.join(draw.choices(CALLS, k=draw.randrange(4)))}<S]{words()}"
    ids = encode_output(tokenizer, text)
    for _ in range(draw.choice((0, 0, 3))):
        ids.insert(draw.randrange(len(ids) + 1), tokenizer.encode("🦉")[0])
    return ids


def some_deltas(draw, tokenizer, choice, *, logprobs):
    """A choice's deltas of some tokens each, the last with its finish."""
    finish = draw.choice((STOP, LENGTH))
    ids = [*some_output(draw, tokenizer), *([tokenizer.special.im_end] if finish == STOP else [])]
    deltas, most = [], draw.choice((1, 3, 50))
    while ids or not deltas:
        size = draw.randrange(1, most + 1)
        taken, ids = ids[:size], ids[size:]
        delta = TokenDelta(choice=choice, token_ids=taken, finish_reason=0 if ids else finish)
        if logprobs:
            for token_id in taken:
                sampled = sampling_pb2.TokenLogprob(token_id=token_id)
                delta.logprobs = (*delta.logprobs, sampling_pb2.PositionLogprobs(sampled=sampled))
        deltas.append(delta)
    if draw.random() < 0.3:
        deltas[-1].finish_reason = 0
        deltas.append(TokenDelta(choice=choice, finish_reason=finish))
    return deltas


def some_bursts(draw, queues):
    """The deltas of all choices in lists of some, each choice's in its order."""
    bursts, most = [], draw.choice((1, 4, 100))
    queues = [list(queue) for queue in queues]
    while any(queues):
        burst: list[TokenDelta] = []
        size = draw.randrange(1, most + 1)
        while len(burst) < size and (full := [queue for queue in queues if queue]):
            burst.append(draw.choice(full).pop(0))
        bursts.append(burst)
    return bursts


def make(tokenizer, bursts, options, output):
    choices = [
        ChoiceDecoder(
            tokenizer,
            index,
            options,
            KimiParser(tokenizer, options.stop, output),
            silent_deltas=output is None,
        )
        for index in range(options.n)
    ]
    return Generation(HEAD, Source(bursts), choices, None, SimpleNamespace(tokens=lambda choice, now: None))


def kinds(choice):
    """What an event's choice has news of."""
    delta = choice["delta"]
    assert set(delta) <= {"reasoning_content", "content", "tool_calls"}
    assert all(delta.values())
    return [*delta, *(["finish"] if choice["finish_reason"] else [])]


def check_choice(tokenizer, events, answer, stop):
    """One choice's events against its whole answer, both as a client has them."""
    message = answer["message"]
    found = [kind for event in events for kind in kinds(event)]
    assert all(len(kinds(event)) <= 1 for event in events), events
    assert found[-1] == "finish"
    assert found.count("finish") == 1
    assert found[:-1] == sorted(found[:-1], key=["reasoning_content", "content", "tool_calls"].index)
    assert events[-1]["finish_reason"] == answer["finish_reason"]
    for key in ("reasoning_content", "content"):
        assert "".join(event["delta"].get(key, "") for event in events) == (message[key] or "")
    calls = [event["delta"]["tool_calls"] for event in events if "tool_calls" in event["delta"]]
    assert all(len(each) == 1 for each in calls), "clients read the first alone"
    assert joined_calls([piece for [piece] in calls]) == message.get("tool_calls", [])
    entries = [entry for event in events for entry in (event["logprobs"] or {"content": []})["content"]]
    assert entries == (answer["logprobs"] or {"content": []})["content"]
    if entries:
        check_logprobs(tokenizer, events, stop)


def check_logprobs(tokenizer, events, stop):
    """The tokens beside a text spell it; beside the last one they may go on to a stop string."""
    texts = [event for event in events if {"content", "reasoning_content"} & set(event["delta"])]
    marks = {tokenizer.decode([token]) for token in range(tokenizer.num_ranks, tokenizer.vocab_size)}
    for event in texts:
        [text] = event["delta"].values()
        dropped = {mark for mark in marks if mark not in text}
        tokens = [entry for entry in event["logprobs"]["content"] if entry["token"] not in dropped]
        written = b"".join(bytes(entry["bytes"]) for entry in tokens).decode(errors="replace")
        assert written == text or (stop and event is texts[-1] and written.startswith(text)), event


@pytest.mark.parametrize("logprobs", [False, True])
async def test_each_event_has_one_kind_of_news_and_all_together_are_the_whole_answer(tokenizer, logprobs):
    draw = random.Random(11)
    for _ in range(400):
        options = sampling_pb2.SamplingParams(
            n=draw.choice((1, 1, 2)), stop=draw.choice(STOPS), logprobs=logprobs
        )
        output = rules(
            "f",
            streamed=draw.choice((("f",), ())),
            separate_reasoning=draw.random() < 0.8,
            stream_reasoning=draw.random() < 0.8,
        )
        queues = [some_deltas(draw, tokenizer, index, logprobs=logprobs) for index in range(options.n)]
        wholes = await fold(
            aiter(make(tokenizer, [[delta] for queue in queues for delta in queue], options, output)),
            options.n,
        )
        events = []
        async for delta in make(tokenizer, some_bursts(draw, queues), options, output):
            [event] = to_builtins(shape.delta_chunk(HEAD, delta))["choices"]
            events.append(event)
        answer = SimpleNamespace(choices=wholes, usage=sampling_pb2.Usage())
        whole = to_builtins(shape.completion(HEAD, answer))
        for index, answer in enumerate(whole["choices"]):
            own = [event for event in events if event["index"] == index]
            check_choice(tokenizer, own, answer, options.stop)
