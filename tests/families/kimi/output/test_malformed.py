"""Outputs that are not as the format says, and the documented result of each.

`[S> [C> id [A> arguments <C] <S]` are the markers of a tool section; what is in «» is ordinary text that
spells them. Outputs begin inside reasoning unless they begin with `instant:`; they end with a stop token
unless they end with `…`, where max_tokens cuts them.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from services.families.kimi.tokenizer import KimiTokenizer
from tests.families.kimi.output.outputs import LENGTH, STOP, Message, choice_of, encode_output, read, rules

TOOLS = ("f", "g.h", "über-3", "list_2")


class Case(NamedTuple):
    """An output and its message; `calls`: name and arguments of each."""

    name: str
    output: str
    reasoning: str = ""
    content: str = ""
    calls: tuple[tuple[str, str], ...] = ()


CALL = "[C>functions.f:0[A>{}<C]"
F = ("f", "{}")

CORPUS = [
    # Reasoning.
    Case("a leading <think> is dropped", "<think>r</think>c", "r", "c"),
    Case("so are several", "<think><think>r</think>c", "r", "c"),
    Case("and later ones, everywhere", "r<think>r</think>c<think>c", "rr", "cc"),
    Case("no reasoning at all", "</think>c", "", "c"),
    Case("nothing", "", "", ""),
    Case("reasoning that never ends is reasoning", "r", "r", ""),
    Case("also where max_tokens cuts it", "r…", "r", ""),
    Case("white space is kept as it is", " \n</think>\n c \n", " \n", "\n c \n"),
    Case("a second </think> is dropped", "r</think>a</think>b", "r", "ab"),
    Case("an instant answer that thinks all the same", "instant:<think>r</think>c", "", "rc"),
    Case("a section in the reasoning ends it", f"r[S>{CALL}<S]", "r", "", (F,)),
    Case("whichever comes first: a section drafted before </think> makes calls",
         f"r[S>{CALL}<S]</think>c", "r", "", (F,)),
    Case("markers of calls in the reasoning end nothing", "a[C>b[A>c<C]<S]</think>d", "abc", "d"),
    Case("</think> in ordinary tokens is text", "a«</think>»b</think>c", "a</think>b", "c"),
    # Around the section.
    Case("text before the section is content", f"r</think>c\n[S>{CALL}<S]", "r", "c\n", (F,)),
    Case("text between section and calls is dropped", f"</think>c[S>x{CALL}y{CALL}z<S]", "", "c", (F, F)),
    Case("text behind the section is dropped", f"</think>c[S>{CALL}<S] and more", "", "c", (F,)),
    Case("a second section goes on with the calls", f"</think>a[S>{CALL}<S]b[S>{CALL}<S]c", "", "a", (F, F)),
    Case("also a call behind the section", f"</think>[S>{CALL}<S]{CALL}", "", "", (F, F)),
    Case("a section without calls", "r</think>c[S><S]d", "r", "c"),
    Case("a section that only begins", "r</think>c[S>", "r", "c"),
    Case("a call without a section makes one", f"</think>a{CALL}b", "", "a", (F,)),
    Case("also in an instant answer", f"instant:{CALL}", calls=(F,)),
    Case("also several, and a section's end behind them", f"</think>a{CALL}{CALL}<S]b", "", "a", (F, F)),
    Case("also before a section", f"</think>a{CALL}[S>{CALL}<S]b", "", "a", (F, F)),
    Case("of an undeclared tool it is dropped", "</think>a[C>functions.k:0[A>{}<C]b", "", "a"),
    Case("also without arguments' marker", "</think>a[C>functions.f:0<C]b", "", "a"),
    Case("and where nothing follows", "</think>a[C>functions.f:0", "", "a"),
    Case("max_tokens in a call without a section: no call", '</think>a[C>functions.f:0[A>{"a":…', "", "a"),
    Case("stray ends are dropped", "</think>a<C]b<S]c[A>d", "", "abcd"),
    Case("the singular section marker is text", "</think>«<|tool_call_section_begin|>»x", "",
         "<|tool_call_section_begin|>x"),
    Case("a section in ordinary tokens is text",
         "r</think>«<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_end|>»", "r",
         "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_end|>"),
    Case("a stray <|im_user|> is no text anywhere",
         "r<|im_user|></think>c<|im_user|>[S>[C>functions.f<|im_user|>:0[A>{<|im_user|>}<C]", "r", "c", (F,)),
    # Missing ends.
    Case("max_tokens in an id: no call", "r[S>[C>functions.f…", "r", ""),
    Case("max_tokens in arguments: no call", 'r[S>[C>functions.f:0[A>{"a":…', "r", ""),
    Case("nor where they look whole", 'r[S>[C>functions.f:0[A>{"a": 1}…', "r", ""),
    Case("max_tokens in the second call: the first", f"r[S>{CALL}[C>functions.f:1[A>{{…", "r", "", (F,)),
    Case("max_tokens behind a call: the call", f"r[S>{CALL}…", "r", "", (F,)),
    Case("max_tokens behind the section: still length", f"r[S>{CALL}<S]…", "r", "", (F,)),
    Case("the section ends without the call's end", 'r[S>[C>functions.f:0[A>{"a": 1}<S]', "r", "",
         (("f", '{"a": 1}'),)),
    Case("so does the answer", 'r[S>[C>functions.f:0[A>{"a": 1}', "r", "", (("f", '{"a": 1}'),)),
    Case("so does the next call", f"r[S>[C>functions.f:0[A>{{}}{CALL}<S]", "r", "", (F, F)),
    Case("and another section", f"r[S>[C>functions.f:0[A>{{}}[S>{CALL}", "r", "", (F, F)),
    Case("but not a whole object: no call", 'r[S>[C>functions.f:0[A>{"a": 1<S]', "r", ""),
    Case("nor nothing", "r[S>[C>functions.f:0[A><S]", "r", ""),
    Case("nor another value", "r[S>[C>functions.f:0[A>[1]<S]", "r", ""),
    Case("nor at the end of the answer", "r[S>[C>functions.f:0[A>{", "r", ""),
    Case("also where max_tokens comes after that", 'r[S>[C>functions.f:0[A>{"a": 1}<S]…', "r", "",
         (("f", '{"a": 1}'),)),
    Case("likewise behind another section's begin", "r[S>[C>functions.f:0[A>{}[S>…", "r", "", (F,)),
    Case("the section ends within an id", f"r[S>[C>functions.f:0<S]{CALL}", "r", "", (F,)),
    Case("an id that the section's end cut gets no arguments", "r[S>[C>functions.f:0<S][A>{}<C]", "r", ""),
    Case("nor one that its begin cut", "r[S>[C>functions.f:0[S>[A>{}<C]", "r", ""),
    Case("nor one that the call's end cut", "r[S>[C>functions.f:0<C][A>{}<C]", "r", ""),
    Case("the section begins within an id", f"r[S>[C>functions.f:0[S>{CALL}", "r", "", (F,)),
    Case("a call begins within an id", f"r[S>[C>functions.g.h:0{CALL}<S]", "r", "", (F,)),
    Case("a call without arguments' marker is none", "r[S>[C>functions.f:0<C]<S]", "r", ""),
    # Ids.
    Case("an id without prefix", "[S>[C>f:0[A>{}<C]<S]", calls=(F,)),
    Case("an id without index", "[S>[C>functions.f[A>{}<C]<S]", calls=(F,)),
    Case("an id of the name alone", "[S>[C>f[A>{}<C]<S]", calls=(F,)),
    Case("white space around an id", "[S>\n[C> functions.f : 0 \n[A>{}<C]<S]", calls=(F,)),
    Case("a wrong index is put right", f"[S>[C>functions.f:7[A>{{}}<C]{CALL}<S]", calls=(F, F)),
    Case("a dotted name", "[S>[C>functions.g.h:0[A>{}<C]<S]", calls=(("g.h", "{}"),)),
    Case("a name with umlaut and dash", "[S>[C>functions.über-3:0[A>{}<C]<S]", calls=(("über-3", "{}"),)),
    Case("a name with digits and an underscore", "[S>[C>functions.list_2:0[A>{}<C]<S]",
         calls=(("list_2", "{}"),)),
    Case("a bare index where several tools are declared", "r[S>[C>3[A>{}<C]<S]", "r"),
    Case("no id", "r[S>[C>[A>{}<C]<S]", "r"),
    Case("a tool that was not declared", "r[S>[C>functions.k:0[A>{}<C]<S]", "r"),
    Case("such a call is not counted", f"[S>[C>functions.k:0[A>{{}}<C]{CALL}<S]", calls=(F,)),
    # Arguments.
    Case("no arguments are {}", "[S>[C>functions.f:0[A><C]<S]", calls=(F,)),
    Case("nor are white space", "[S>[C>functions.f:0[A> \n<C]<S]", calls=(F,)),
    Case("arguments are trimmed, inside they stay", '[S>[C>functions.f:0[A>\n{ "a" : 1 }\n<C]<S]',
         calls=(("f", '{ "a" : 1 }'),)),
    Case("no object: given as it is", "[S>[C>functions.f:0[A>[1, 2]<C]<S]", calls=(("f", "[1, 2]"),)),
    Case("also what is no JSON", "[S>[C>functions.f:0[A>city=Paris<C]<S]", calls=(("f", "city=Paris"),)),
    Case("markers in ordinary tokens are part of a string",
         '[S>[C>functions.f:0[A>{"s": "«<|tool_call_end|></think>»"}<C]<S]',
         calls=(("f", '{"s": "<|tool_call_end|></think>"}'),)),
    Case("stray markers within arguments are dropped", '[S>[C>functions.f:0[A>{"a"</think>: [A>1}<C]<S]',
         calls=(("f", '{"a": 1}'),)),
    Case("stray markers within an id too", "[S>[C>func</think>tions.f:0[A>{}<C]<S]", calls=(F,)),
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(nano_dir) -> KimiTokenizer:
    return KimiTokenizer.from_dir(nano_dir)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_a_malformed_output_has_the_documented_result_however_it_is_cut(tokenizer, case):
    output = case.output
    in_reasoning = not output.startswith("instant:")
    finish = LENGTH if output.endswith("…") else STOP
    ids = encode_output(tokenizer, output.removeprefix("instant:").removesuffix("…"))
    if finish == STOP:
        ids.append(tokenizer.special.im_end)
    calls = tuple((f"functions.{name}:{4 + i}", name, text) for i, (name, text) in enumerate(case.calls))
    reason = "length" if finish == LENGTH else "tool_calls" if calls else "stop"
    expected = Message(case.reasoning, case.content, calls, reason)
    some = sorted(random.Random(case.name).choices(range(len(ids) + 1), k=4))
    for cuts in ((), range(len(ids) + 1), some):
        counts = set()
        for plain in (None, tokenizer):
            choice = choice_of(tokenizer, rules(*TOOLS, in_reasoning=in_reasoning, first_index=4))
            assert read(choice, ids, cuts, finish, plain=plain) == expected
            counts.add((choice.completion_tokens, choice.reasoning_tokens))
        assert len(counts) == 1


def test_no_two_cases_are_called_the_same():
    assert len({case.name for case in CORPUS}) == len(CORPUS)
    assert len({case.output for case in CORPUS}) == len(CORPUS)
