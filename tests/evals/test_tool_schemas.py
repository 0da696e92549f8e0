"""A part of the 300 schemas, spoken by random logits under the grammar the gateway makes of them."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from evals.tool_schemas import tool_schemas
from services.decode.constraint.compiler import GrammarCompiler
from services.decode.constraint.rules import rules_from_proto
from services.decode.constraint.vocabulary import GrammarVocabulary
from services.engine.sampling.spec import SamplingSpec
from services.families.conversation import Conversation
from services.families.kimi.chat_format import KimiChat
from services.families.kimi.family import KIMI
from services.families.kimi.tokenizer import KimiTokenizer
from services.gateway.constraint.builder import ConstraintBuilder
from services.gateway.constraint.output_format import OutputFormat
from tests.support.constrained import RandomSpeaker

CHECKER = Draft202012Validator.FORMAT_CHECKER


@pytest.fixture(scope="module")
def tokenizer(nano_dir) -> KimiTokenizer:
    return KimiTokenizer.from_dir(nano_dir)


@pytest.fixture(scope="module")
def speaker(nano_dir, tokenizer) -> RandomSpeaker:
    return RandomSpeaker(
        GrammarCompiler(GrammarVocabulary(KIMI.read_grammar_tokens(nano_dir), tokenizer.vocab_size))
    )


@pytest.fixture
async def build(tokenizer):
    builder = ConstraintBuilder(KimiChat(tokenizer), closes_calls=True)
    yield builder.build
    builder.close()


def calls_of(tokenizer: KimiTokenizer, tokens: list[int]) -> list[tuple[str, str]]:
    """(id, arguments) of every finished call."""
    special = tokenizer.special
    calls = []
    begin = None
    for place, token in enumerate(tokens):
        if token == special.tool_call_begin:
            begin = place
        elif token == special.tool_call_end:
            call = tokens[begin + 1 : place]
            split = call.index(special.tool_call_argument_begin)
            calls.append((tokenizer.decode(call[:split]), tokenizer.decode(call[split + 1 :])))
    return calls


@pytest.mark.parametrize("choice", ["required", "function", "auto"])
async def test_every_call_of_a_varied_tool_is_valid_under_its_schema(build, speaker, tokenizer, choice):
    finished = asked = 0
    section = tokenizer.special.tool_calls_section_begin
    tools = tool_schemas()
    for number in range(0, len(tools), 31):
        tool = tools[number]
        function = tool["function"]
        thinking = number % 2 == 0
        wish = OutputFormat(choice, function["name"] if choice == "function" else "")
        constraint = await build(wish, Conversation((), (tool,), thinking))
        assert not constraint.checks, function
        steer = {9: section} if choice == "auto" else {}
        said = speaker.speak(
            rules_from_proto(constraint.proto), 200, number, SamplingSpec(top_p=0.95), steer=steer
        )
        validator = Draft202012Validator(function["parameters"], format_checker=CHECKER)
        calls = calls_of(tokenizer, said.tokens)
        for index, (call_id, arguments) in enumerate(calls):
            assert call_id == f"functions.{function['name']}:{index}"
            errors = [error.message for error in validator.iter_errors(json.loads(arguments))]
            assert errors == [], arguments
        asked += 1
        finished += bool(calls)
        if calls and section in said.tokens and said.end == "stop":
            assert said.tokens[-2:] == [tokenizer.special.tool_calls_section_end, tokenizer.special.im_end]
    assert finished >= 0.9 * asked


def test_the_schemas_are_the_same_every_time():
    assert tool_schemas(30) == tool_schemas()[:30]
    assert len({json.dumps(tool["function"]["parameters"]) for tool in tool_schemas()}) > 250
