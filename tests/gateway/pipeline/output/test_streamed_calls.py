"""Arguments of calls as they come: 300 schemas, spoken by random logits under the grammar made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from jsonschema import Draft202012Validator

from evals.tool_schemas import tool_schemas
from perigee.v1 import sampling_pb2
from services.decode.constraint.compiler import GrammarCompiler
from services.decode.constraint.rules import rules_from_proto
from services.decode.constraint.vocabulary import GrammarVocabulary
from services.families.conversation import Conversation
from services.families.kimi.chat_format import KimiChat
from services.families.kimi.family import KIMI
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.output import OutputRules
from services.gateway.constraint.builder import Constraint, ConstraintBuilder
from services.gateway.constraint.output_format import JsonAnswer, OutputFormat
from services.gateway.pipeline.output.answer import fold
from services.gateway.workers.stream.token_delta import TokenDelta
from tests.families.kimi.output.outputs import append_call, choice_of, rules
from tests.support.constrained import RandomSpeaker, Said

STOP, LENGTH = sampling_pb2.FINISH_REASON_STOP, sampling_pb2.FINISH_REASON_LENGTH
TOOL_CALLS = sampling_pb2.FINISH_REASON_TOOL_CALLS
CHECKER = Draft202012Validator.FORMAT_CHECKER
WRITE_FILE = {
    "type": "function",
    "function": {
        "name": "write_file",
        "parameters": {
            "type": "object",
            "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
            "required": ["path", "content"],
        },
    },
}
FILE = json.dumps({"content": 'def main():\n    print("{}")\n' * 4, "path": "src/a.py"})


@pytest.fixture(scope="module")
def tokenizer(nano_dir) -> KimiTokenizer:
    return KimiTokenizer.from_dir(nano_dir)


@pytest.fixture(scope="module")
def speaker(nano_dir, tokenizer) -> RandomSpeaker:
    return RandomSpeaker(
        GrammarCompiler(GrammarVocabulary(KIMI.read_grammar_tokens(nano_dir), tokenizer.vocab_size))
    )


@pytest.fixture
def build(tokenizer):
    """Gives the constraint of a call; `closes_calls`: the gateway's setting."""
    builders = [ConstraintBuilder(KimiChat(tokenizer), closes_calls=closes) for closes in (False, True)]

    async def built(tool, *, thinking=False, closes_calls=False, choice="required") -> Constraint:
        return await builders[closes_calls].build(OutputFormat(choice), Conversation((), (tool,), thinking))

    yield built
    for builder in builders:
        builder.close()


def output_rules(tool, *, thinking: bool, streamed: frozenset[str]) -> OutputRules:
    return rules(tool["function"]["name"], in_reasoning=thinking, streamed=streamed)


def deltas_of(said: Said) -> list[TokenDelta]:
    """One for each engine step, as the decode worker ends them."""
    deltas = [TokenDelta(token_ids=[token_id]) for token_id in said.tokens]
    deltas[0].is_cut = said.is_cut
    deltas[-1].finish_reason = STOP if said.end == "stop" else LENGTH
    return deltas


async def answer_of(tokenizer, given: OutputRules, deltas: Sequence[TokenDelta]):
    """What a caller gets who does not stream."""

    async def news():
        choice = choice_of(tokenizer, given)
        for delta in deltas:
            for piece in choice.feed(delta):
                yield piece

    [answer] = await fold(news(), 1)
    return answer


def streamed_calls(tokenizer, given: OutputRules, deltas: Sequence[TokenDelta]):
    """The calls, appended as a client does, and the steps at which arguments of each came."""
    choice = choice_of(tokenizer, given)
    calls: list[tuple[str, str, str]] = []
    steps: list[list[int]] = []
    for step, delta in enumerate(deltas):
        for news in choice.feed(delta):
            if news.call is not None:
                append_call(calls, news.call)
                steps += [[]] if news.call.name else []
                steps[-1] += [step] if news.call.arguments else []
    return calls, steps


def argument_steps(tokenizer, tokens: Sequence[int]) -> list[range]:
    """For each call, the steps that give a token of its arguments."""
    special = tokenizer.special
    begins = [step for step, token in enumerate(tokens) if token == special.tool_call_argument_begin]
    ends = [step for step, token in enumerate(tokens) if token == special.tool_call_end]
    ends += [len(tokens)] * (len(begins) - len(ends))
    return [range(begin + 1, end) for begin, end in zip(begins, ends, strict=True)]


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("thinking", [True, False])
async def test_of_300_schemas_the_joined_deltas_are_the_arguments_that_the_model_wrote(
    build, speaker, tokenizer, thinking
):
    held = finished = unfinished = long = 0
    for number, tool in enumerate(tool_schemas()):
        constraint = await build(tool, thinking=thinking, closes_calls=number % 2 == 0)
        held += not constraint.streamed
        steer = {5: tokenizer.special.end_think} if thinking else {}
        said = speaker.speak(rules_from_proto(constraint.proto), 130, number, steer=steer)
        assert said.end in ("stop", "length"), said.end
        deltas = deltas_of(said)
        given = output_rules(tool, thinking=thinking, streamed=constraint.streamed)
        calls, shown_at = streamed_calls(tokenizer, given, deltas)
        whole = await answer_of(tokenizer, given, deltas)
        assert [(call.id, call.name, call.arguments) for call in whole.calls] == calls

        written = argument_steps(tokenizer, said.tokens)
        for (_, _, arguments), own, shown in zip(calls, written, shown_at, strict=True):
            raw = tokenizer.decode_bytes(said.tokens[own.start : own.stop])
            assert arguments == raw.decode(errors="ignore").strip()
            assert all(step - shown[0] <= 2 for step in own[:1]), "the first delta is late"
            if len(own) >= 20:
                long += 1
                assert len(shown) >= 5
        closed = said.tokens.count(tokenizer.special.tool_call_end)
        validator = Draft202012Validator(tool["function"]["parameters"], format_checker=CHECKER)
        for _, _, arguments in calls[:closed]:
            assert validator.is_valid(json.loads(arguments)), arguments
        if len(calls) > closed:
            assert whole.finish_reason == LENGTH
        finished += closed
        unfinished += len(calls) - closed

        at_once = await answer_of(
            tokenizer, output_rules(tool, thinking=thinking, streamed=frozenset()), deltas
        )
        assert at_once.calls == whole.calls[:closed], "held calls are the same, less a cut one"
    assert held <= 0.05 * 300
    assert finished > 150
    assert unfinished > 20
    assert long > 100


def cut_at(tokenizer, limit: int) -> dict[int, int]:
    """Tokens to force: a whole call of `write_file`."""
    written = f"<|tool_calls_section_begin|><|tool_call_begin|>functions.write_file:0{ARGUMENTS}"
    return dict(enumerate(tokenizer.encode(written, parse_special=True)[:limit]))


ARGUMENTS = f"<|tool_call_argument_begin|>{FILE}<|tool_call_end|><|tool_calls_section_end|><|im_end|>"


async def test_a_file_cut_anywhere_is_never_a_call_that_could_be_run(build, speaker, tokenizer):
    constraint = await build(WRITE_FILE)
    assert constraint.streamed == {"write_file"}
    script = cut_at(tokenizer, 10_000)
    given = output_rules(WRITE_FILE, thinking=False, streamed=constraint.streamed)
    limits = range(8, len(script), max(1, len(script) // 20))
    assert len(limits) >= 20
    for limit in limits:
        said = speaker.speak(rules_from_proto(constraint.proto), limit, steer=script)
        assert said.tokens == [script[place] for place in range(limit)], "nothing is closed"
        answer = await answer_of(tokenizer, given, deltas_of(said))
        assert answer.finish_reason == LENGTH
        whole = tokenizer.special.tool_call_end in said.tokens
        assert [is_json(call.arguments) for call in answer.calls] in ([], [whole])
        assert all(FILE.startswith(call.arguments) for call in answer.calls)
        calls, _ = streamed_calls(tokenizer, given, deltas_of(said))
        assert [arguments for _, _, arguments in calls] == [call.arguments for call in answer.calls]


async def test_a_file_that_fits_is_a_call(build, speaker, tokenizer):
    constraint = await build(WRITE_FILE)
    script = cut_at(tokenizer, 10_000)
    said = speaker.speak(rules_from_proto(constraint.proto), len(script), steer=script)
    given = output_rules(WRITE_FILE, thinking=False, streamed=constraint.streamed)
    answer = await answer_of(tokenizer, given, deltas_of(said))
    assert [call.arguments for call in answer.calls] == [FILE]
    assert answer.finish_reason == TOOL_CALLS


async def test_by_setting_a_cut_file_is_closed_and_the_finish_says_length(build, speaker, tokenizer):
    constraint = await build(WRITE_FILE, closes_calls=True)
    script = cut_at(tokenizer, 10_000)
    given = output_rules(WRITE_FILE, thinking=False, streamed=constraint.streamed)
    for limit in range(60, len(script) - 10, 20):
        said = speaker.speak(rules_from_proto(constraint.proto), limit, steer=script)
        answer = await answer_of(tokenizer, given, deltas_of(said))
        assert [set(json.loads(call.arguments)) for call in answer.calls] == [{"path", "content"}]
        assert answer.finish_reason == LENGTH


async def test_an_answer_of_a_schema_is_closed_as_before(build, speaker, tokenizer):
    """A guard: closing is switched off for calls alone."""
    builder = ConstraintBuilder(KimiChat(tokenizer))
    schema = WRITE_FILE["function"]["parameters"]
    wish = OutputFormat(answer=JsonAnswer(schema, "response_format"))
    constraint = await builder.build(wish, Conversation((), (), thinking=False))
    builder.close()
    for limit in (30, 50):
        script = dict(enumerate(tokenizer.encode(FILE)))
        said = speaker.speak(rules_from_proto(constraint.proto), limit, steer=script)
        assert (said.end, said.is_cut) == ("length", True)
        assert set(json.loads(tokenizer.decode(said.tokens[:-1]))) == {"path", "content"}
