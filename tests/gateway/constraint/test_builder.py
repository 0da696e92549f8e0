"""Wishes to constraints."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from services.common.errors import InvalidRequest, Overloaded, UnsupportedValue
from services.common.grammar_limits import Effort
from services.families.conversation import Conversation, Message, ToolCall
from services.families.kimi.chat_format import KimiChat
from services.gateway.constraint import builder as module
from services.gateway.constraint.builder import ConstraintBuilder
from services.gateway.constraint.output_format import (
    GrammarAnswer,
    JsonAnswer,
    OutputFormat,
    RegexAnswer,
)
from services.gateway.constraint.schema_cache import SchemaCache


def tool(name: str = "f", parameters=None, **fields) -> dict:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **fields}}


HARD = {"type": "object", "properties": {"a": {"not": {"const": 1}}}}
TOOLS = (tool("f", {"type": "object", "properties": {"a": {"type": "string"}}}), tool("g"))


DOUBLING = "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1} r{i + 1}\n" for i in range(60)) + 'r60 ::= "a"\n'


@pytest.fixture
def build(tokenizer):
    builder = ConstraintBuilder(KimiChat(tokenizer))

    async def build(wish=OutputFormat(), tools=TOOLS, messages=(), thinking=True):  # noqa: B008
        return await builder.build(wish, Conversation(tuple(messages), tuple(tools), thinking))

    yield build
    builder.close()


def main_rules(constraint) -> str:
    return json.loads(constraint.proto.grammar)["grammars"][0]["lark_grammar"]


async def test_nothing_is_constrained_without_tools_or_a_format(build):
    assert (await build(tools=())).proto is None
    assert (await build(OutputFormat("none"))).proto is None
    assert (await build(tools=({"type": "web_search"},))).proto is None


async def test_under_auto_the_output_is_free_until_a_section_begins(build):
    proto = (await build()).proto
    assert (proto.in_reasoning, proto.has_section, proto.waits_for_section) == (True, True, True)
    assert "functions.f:" in proto.grammar
    assert "functions.g:" in proto.grammar


@pytest.mark.parametrize("thinking", [True, False])
async def test_a_required_call_begins_where_reasoning_ends(build, thinking):
    proto = (await build(OutputFormat("required"), thinking=thinking)).proto
    assert (proto.in_reasoning, proto.has_section, proto.waits_for_section) == (thinking, True, False)


async def test_a_named_choice_allows_one_call_of_this_function(build):
    constraint = await build(OutputFormat("function", "g"))
    assert "functions.f:" not in constraint.proto.grammar
    assert '"0" %if eq(_, 0)' in main_rules(constraint)
    assert '"1" %if' not in main_rules(constraint)


async def test_without_parallel_calls_there_is_one(build):
    assert '"1" %if' in main_rules(await build())
    assert '"1" %if' not in main_rules(await build(OutputFormat(parallel=False)))


async def test_calls_are_numbered_over_the_conversation(build):
    calls = (ToolCall("functions.f:0", "f"), ToolCall("functions.f:1", "f"))
    constraint = await build(messages=[Message("assistant", tool_calls=calls)])
    assert 'index::_ : "2" %if eq(_, 0)' in main_rules(constraint)


async def test_a_format_beside_tools_allows_a_call_or_the_answer(build):
    constraint = await build(OutputFormat(answer=JsonAnswer({"type": "object"}, "response_format")))
    assert "start: section | @answer" in main_rules(constraint)
    assert not constraint.proto.waits_for_section
    alone = await build(OutputFormat("none", answer=RegexAnswer("a/b", "regex")), tools=())
    assert "start: @answer" in main_rules(alone)
    assert not alone.proto.has_section


@pytest.mark.parametrize(
    ("wish", "tools"),
    [
        (OutputFormat("required"), (tool("f", HARD),)),
        (OutputFormat("function", "f"), (tool("g"), tool("f", HARD))),
        (OutputFormat(), (tool("f", HARD, strict=True),)),
        (OutputFormat(answer=JsonAnswer(HARD, "response_format.json_schema.schema")), ()),
    ],
)
async def test_what_must_be_enforced_and_cannot_be_is_refused_by_keyword_and_place(build, wish, tools):
    with pytest.raises(UnsupportedValue, match="not cannot be enforced") as refusal:
        await build(wish, tools)
    assert refusal.value.param.endswith(".properties.a")


async def test_under_auto_the_rest_is_checked_when_the_call_is_finished(build):
    constraint = await build(tools=(tool("f", HARD), tool("g", {"type": "object"})))
    assert constraint.checks.complaint("f", '{"a": 1}')
    assert not constraint.checks.complaint("g", '{"a": 1}')


async def test_another_functions_schema_does_not_spoil_a_named_choice(build):
    await build(OutputFormat("function", "g"), (tool("g"), tool("f", HARD)))


@pytest.mark.parametrize(
    ("wish", "tools", "param"),
    [
        (OutputFormat("required"), (), "tool_choice"),
        (OutputFormat("function", "x"), TOOLS, "tool_choice"),
        (OutputFormat("required"), ({"type": "web_search"},), "tool_choice"),
        (OutputFormat(), (tool("f"), tool("f")), "tools[1].function.name"),
        (OutputFormat(), (tool(""),), "tools[0].function.name"),
        (OutputFormat(), (tool("f"), tool("g ")), "tools[1].function.name"),
        (OutputFormat("required"), (tool("\u3000g"),), "tools[0].function.name"),
        (OutputFormat(), (tool("g\x7f"),), "tools[0].function.name"),
        (OutputFormat(), (tool("g\nh"),), "tools[0].function.name"),
        (OutputFormat(), (tool("f", {"type": "string"}),), "tools[0].function.parameters.type"),
        (OutputFormat(), (tool("f", {"type": "dict"}),), "tools[0].function.parameters.type"),
        (OutputFormat(), tuple(tool(f"f{i}") for i in range(257)), "tools"),
        (OutputFormat(answer=GrammarAnswer("root = 1", "ebnf")), (), "ebnf"),
        (OutputFormat(answer=GrammarAnswer('root ::= "a', "ebnf")), (), "ebnf"),
        (OutputFormat(answer=RegexAnswer("(?=a)b", "regex")), (), "regex"),
        (OutputFormat(answer=RegexAnswer(r"[^\s\S]", "regex")), (), "regex"),
        (OutputFormat(answer=RegexAnswer("(a{1000}){1000}", "regex")), (), "regex"),
        (OutputFormat(answer=GrammarAnswer("root ::= root", "ebnf")), (), "ebnf"),
        (OutputFormat(answer=GrammarAnswer("root ::= a\na ::= b\nb ::= a", "ebnf")), (), "ebnf"),
        (OutputFormat(answer=GrammarAnswer(DOUBLING, "ebnf")), (), "ebnf"),
    ],
)
async def test_a_wish_that_is_wrong_is_refused_by_its_field(build, wish, tools, param):
    with pytest.raises(InvalidRequest) as refusal:
        await build(wish, tools)
    assert refusal.value.param == param


@pytest.mark.parametrize("name", ["get_weather", "get.weather-2", "get weather", "wetter:heute", "天気"])
async def test_a_name_of_any_script_is_taken_as_it_is(build, name):
    assert f"functions.{name}:" in (await build(tools=(tool(name),))).proto.grammar


async def test_large_schemas_delay_no_others(tokenizer, monkeypatch):
    """Those that take more than QUICK effort wait for each other, everybody else for none of them."""
    builder, opened, read = ConstraintBuilder(KimiChat(tokenizer)), threading.Event(), SchemaCache.ready

    def slow(cache, schema, param, meter, **options):
        if "large" in schema.get("title", ""):
            if meter.effort is Effort.QUICK:
                raise InvalidRequest("it is large", param)
            assert opened.wait(30)
        return read(cache, schema, param, meter, **options)

    def ask(title):
        return builder.build(OutputFormat(answer=JsonAnswer({"title": title, "type": "object"}, "p")), None)

    monkeypatch.setattr(SchemaCache, "ready", slow)
    large = [asyncio.ensure_future(ask(f"large {number}")) for number in range(8)]
    for number in range(4):
        assert (await ask(f"small {number}")).proto
    assert not any(task.done() for task in large)
    opened.set()
    assert all(made.proto for made in await asyncio.gather(*large))
    builder.close()


async def test_a_tenant_whose_schemas_wait_leaves_places_and_turns_to_others(tokenizer, monkeypatch):
    builder, opened, read = ConstraintBuilder(KimiChat(tokenizer)), threading.Event(), []

    def slow(cache, schema, param, meter, **options):
        assert opened.wait(30)
        read.append(schema["title"])
        raise UnsupportedValue("no", param)

    def ask(title, tenant):
        wish = OutputFormat(answer=JsonAnswer({"title": title}, "p"))
        return asyncio.ensure_future(builder.build(wish, None, (tenant, 1)))

    monkeypatch.setattr(SchemaCache, "ready", slow)
    crowd = [ask("crowd", 1) for _ in range(module.MAX_WAITING)]
    await asyncio.sleep(0)
    other = ask("other", 2)
    refused, _ = await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)
    assert {type(task.exception()) for task in refused} == {Overloaded}
    assert not other.done()
    opened.set()
    with pytest.raises(UnsupportedValue):
        await other
    await asyncio.gather(*crowd, return_exceptions=True)
    assert read.index("other") <= 3
    builder.close()


async def test_reading_makes_room_while_tenants_compete_with_or_without_schemas(tokenizer, monkeypatch):
    builder, wanted = ConstraintBuilder(KimiChat(tokenizer)), []

    class Asked:
        def __init__(self, question):
            self.take = lambda: wanted.append(question())

    async def read(title):
        wanted.clear()
        wish = OutputFormat(answer=JsonAnswer({"type": "object", "title": title}, "p"))
        await builder.build(wish, None, (1, 1))
        return set(wanted)

    monkeypatch.setattr(module, "Rests", Asked)
    assert await read("first") == {False}
    await builder.build(OutputFormat(), None, (2, 1))
    assert await read("second") == {True}
    builder.close()


async def test_of_large_schemas_only_so_many_wait(tokenizer, monkeypatch):
    monkeypatch.setattr(module, "MAX_LARGE", 0)
    builder = ConstraintBuilder(KimiChat(tokenizer))
    with pytest.raises(Overloaded, match="large"):
        await builder.build(OutputFormat(answer=RegexAnswer("(", "regex")), None)
    builder.close()


async def test_a_raw_prompt_has_no_reasoning(tokenizer):
    builder = ConstraintBuilder(KimiChat(tokenizer))
    constraint = await builder.build(OutputFormat(answer=RegexAnswer("a+", "regex")), None)
    assert not constraint.proto.in_reasoning
    builder.close()
