"""Outputs of the model as tests write them, and the message that a client gets of one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from perigee.v1 import sampling_pb2
from services.families.kimi.output.parser import KimiParser
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.output import CallPiece, CallRules, OutputRules, TextKind
from services.gateway.pipeline.output.choice import ChoiceDecoder
from services.gateway.workers.stream.token_delta import TokenDelta

LENGTH, STOP = sampling_pb2.FINISH_REASON_LENGTH, sampling_pb2.FINISH_REASON_STOP
SHORT = {
    "[S>": "<|tool_calls_section_begin|>",
    "<S]": "<|tool_calls_section_end|>",
    "[C>": "<|tool_call_begin|>",
    "[A>": "<|tool_call_argument_begin|>",
    "<C]": "<|tool_call_end|>",
}


@dataclass(frozen=True)
class Message:
    """What a client has in the end. `calls`: id, name and arguments of each."""

    reasoning: str = ""
    content: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()
    finish: str = "stop"


def encode_output(tokenizer: KimiTokenizer, text: str) -> list[int]:
    """Special-token strings, also in SHORT form, become control tokens; what is in «» is ordinary text."""
    ids: list[int] = []
    for index, piece in enumerate(re.split("«(.*?)»", text, flags=re.DOTALL)):
        if index % 2:
            ids += tokenizer.encode(piece)
            continue
        for short, marker in SHORT.items():
            piece = piece.replace(short, marker)
        ids += tokenizer.encode(piece, parse_special=True)
    return ids


def rules(
    *tools: str, in_reasoning: bool = True, first_index: int = 0, streamed: Iterable[str] = (), **fields
) -> OutputRules:
    calls = CallRules(frozenset(tools), first_index, streamed=frozenset(streamed))
    return OutputRules(in_reasoning, calls=calls, **fields)


def choice_of(tokenizer: KimiTokenizer, given: OutputRules | None, stop: Sequence[str] = ()) -> ChoiceDecoder:
    parser = KimiParser(tokenizer, stop, given)
    return ChoiceDecoder(
        tokenizer, 0, sampling_pb2.SamplingParams(stop=tuple(stop)), parser, silent_deltas=given is None
    )


def append_call(calls: list[tuple[str, str, str]], piece: CallPiece) -> None:
    """As a client does: id and name once, with empty arguments; the arguments of the last call alone grow."""
    if piece.name:
        assert piece.index == len(calls)
        assert not piece.arguments
        calls.append((piece.id, piece.name, ""))
        return
    assert not piece.id
    assert piece.arguments
    assert piece.index == len(calls) - 1, "calls interleave"
    call_id, name, arguments = calls[-1]
    calls[-1] = call_id, name, arguments + piece.arguments


def read(
    choice: ChoiceDecoder,
    ids: Sequence[int],
    cuts: Iterable[int] = (),
    finish: int = STOP,
    *,
    plain: KimiTokenizer | None = None,
) -> Message:
    """What a client that appends every delta gets of an output sent in pieces, cut at `cuts`.

    `plain`: single tokens that are text and nothing else pass the choice by, and are read by this.
    """
    reasoning, content, calls, reason = "", "", [], 0
    bounds = [0, *cuts, len(ids)]
    for begin, end in pairwise(bounds):
        delta = TokenDelta(token_ids=ids[begin:end])
        if end == len(ids):
            delta.finish_reason = finish
        text = plain.whole_text(ids[begin]) if plain and begin + 1 == end < len(ids) else ""
        if text and choice.plain is not None:
            assert choice.plain in (TextKind.REASONING, TextKind.CONTENT)
            reasoning += text if choice.plain is TextKind.REASONING else ""
            content += text if choice.plain is TextKind.CONTENT else ""
            choice.count_plain()
            continue
        for news in choice.feed(delta):
            assert not reason, "news behind the end"
            reasoning += news.reasoning
            content += news.content
            if news.call is not None:
                append_call(calls, news.call)
            reason = news.finish_reason
        if choice.finished:
            break
    name = sampling_pb2.FinishReason.Name(reason).removeprefix("FINISH_REASON_").lower()
    return Message(reasoning, content, tuple(calls), name)
