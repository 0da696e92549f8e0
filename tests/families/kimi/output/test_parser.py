"""The switches of the output parser, stop strings, and the check of calls."""

from __future__ import annotations

import pytest

from services.common.errors import InvalidRequest
from services.families.kimi.output.parser import KimiParser
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.output import CallPiece, CallRules, OutputRules
from tests.families.kimi.output.outputs import LENGTH, SHORT, Message, choice_of, encode_output, read, rules

CALL = '[S>[C>functions.f:0[A>{"a": 1}<C]<S]'
MADE = (("functions.f:0", "f", '{"a": 1}'),)


@pytest.fixture(scope="module")
def tokenizer(nano_dir) -> KimiTokenizer:
    return KimiTokenizer.from_dir(nano_dir)


def message(tokenizer, text, given, stop=()):
    """Read with every cut; read whole it must be the same."""
    ids = [*encode_output(tokenizer, text), tokenizer.special.im_end]
    whole = read(choice_of(tokenizer, given, stop), ids)
    assert read(choice_of(tokenizer, given, stop), ids, range(1, len(ids))) == whole
    return whole


def spelt(text):
    for short, marker in SHORT.items():
        text = text.replace(short, marker)
    return text


def test_reasoning_that_is_not_told_apart_is_content_with_its_markers(tokenizer):
    given = rules("f", separate_reasoning=False)
    output = f"<think>r</think>c</think>{CALL}"
    assert message(tokenizer, output, given) == Message("", "<think>r</think>c</think>", MADE, "tool_calls")


def test_a_section_ends_reasoning_also_where_that_is_content(tokenizer):
    given = rules("f", separate_reasoning=False)
    assert message(tokenizer, f"r{CALL}", given) == Message("", "r", MADE, "tool_calls")


def test_without_the_parser_of_calls_a_section_is_content_with_its_markers(tokenizer):
    given = OutputRules(calls=None)
    section = spelt(CALL)
    assert message(tokenizer, f"r{CALL}", given) == Message("r", section)
    assert message(tokenizer, f"r<C]</think>c{CALL}</think>x", given) == Message(
        f"r{spelt('<C]')}", f"c{section}x"
    )


def test_without_any_parser_everything_is_content(tokenizer):
    given = OutputRules(separate_reasoning=False, calls=None)
    output = spelt(f"<think>r</think>c{CALL}x")
    assert message(tokenizer, output, given) == Message("", output)
    assert message(tokenizer, output, None) == Message("", output)


def test_markers_of_reasoning_are_no_part_of_a_call_whatever_is_told_apart(tokenizer):
    given = rules("f", separate_reasoning=False)
    output = 'c[S>[C>functions</think>.f:0[A>{"a"<think>: 1}<C]<S]'
    assert message(tokenizer, output, given) == Message("", "c", MADE, "tool_calls")


def pieces(tokenizer, text, given):
    """What is new after each token and, last, at the end."""
    parser = KimiParser(tokenizer, (), given)
    taken = []
    for token_id in encode_output(tokenizer, text):
        assert not parser.feed(token_id)
        taken.append(parser.take())
    parser.end(by_model=False)
    return [*taken, parser.take()]


@pytest.mark.parametrize("tail", ["</think>c", "[S>", ""])
def test_reasoning_that_does_not_stream_comes_in_one_piece_when_it_ends(tokenizer, tail):
    text = "some long reasoning"
    given = rules(stream_reasoning=False)
    news = [piece.reasoning for piece in pieces(tokenizer, text + tail, given)]
    assert [reasoning for reasoning in news if reasoning] == [text]
    assert news[len(tokenizer.encode(text))] == text
    streamed = [piece.reasoning for piece in pieces(tokenizer, text + tail, rules())]
    assert sum(map(bool, streamed)) > 1


def test_reasoning_that_does_not_stream_is_given_whole_whatever_stop_string_is_in_it(tokenizer):
    given = rules(stream_reasoning=False)
    expected = Message("abc STOP def", "x ")
    assert message(tokenizer, "abc STOP def</think>x STOP", given, ("STOP",)) == expected


def test_content_streams_token_by_token(tokenizer):
    ids = tokenizer.encode("plain content")
    news = [piece.content for piece in pieces(tokenizer, "plain content", rules(in_reasoning=False))]
    assert news == [*(tokenizer.decode([token_id]) for token_id in ids), ""]


def test_a_call_comes_whole_with_its_end_marker_and_not_before(tokenizer):
    news = [piece.calls for piece in pieces(tokenizer, CALL, rules("f"))]
    end = encode_output(tokenizer, CALL).index(tokenizer.special.tool_call_end)
    assert [index for index, calls in enumerate(news) if calls] == [end]


STREAMED = rules("f", "g", streamed=("f",))


def test_a_streamed_call_is_shown_when_its_arguments_begin_and_these_token_by_token(tokenizer):
    output = CALL.replace(" ", "")
    ids = encode_output(tokenizer, output)
    news = [piece.calls for piece in pieces(tokenizer, output, STREAMED)]
    begin, end = (
        ids.index(getattr(tokenizer.special, f"tool_call_{mark}")) for mark in ("argument_begin", "end")
    )
    assert news[begin] == (CallPiece(0, "functions.f:0", "f"),)
    assert not any(news[:begin] + news[end:])
    given = [news[index] for index in range(begin + 1, end)]
    assert given == [(CallPiece(0, arguments=tokenizer.decode([token])),) for token in ids[begin + 1 : end]]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("", "{}"),
        (" \n ", "{}"),
        ('\n {"a":  1} \n', '{"a":  1}'),
        ('{"a": "日本🦉"}', '{"a": "日本🦉"}'),
        ('{"a": "x  y"}', '{"a": "x  y"}'),
    ],
)
@pytest.mark.parametrize("streamed", [(), ("f",)])
def test_the_arguments_of_a_call_are_the_same_streamed_or_held(tokenizer, written, shown, streamed):
    output = f"[S>[C>functions.f:0[A>{written}<C][C>functions.g:1[A>{{}}<C]<S]"
    made = (("functions.f:0", "f", shown), ("functions.g:1", "g", "{}"))
    assert message(tokenizer, output, rules("f", "g", streamed=streamed)) == Message(
        "", "", made, "tool_calls"
    )


def test_a_streamed_call_that_is_cut_stays_unfinished_and_a_held_one_is_absent(tokenizer):
    for name, calls in (("f", (("functions.f:0", "f", '{"a": "x'),)), ("g", ())):
        ids = encode_output(tokenizer, f'[S>[C>functions.{name}:0[A>{{"a": "x')
        assert read(choice_of(tokenizer, STREAMED), ids, (), LENGTH) == Message("", "", calls, "length")


@pytest.mark.parametrize("end", ["<S]", "[S>", "[C>functions.f:1[A>{}<C]<S]", ""])
def test_a_streamed_call_that_something_else_ends_is_no_finish_of_calls_unless_it_is_whole(tokenizer, end):
    for written, finish in (('{"a": 1}', "tool_calls"), ('{"a": 1', "stop")):
        read_as = message(tokenizer, f"[S>[C>functions.f:0[A>{written}{end}", STREAMED)
        assert read_as.calls[0] == ("functions.f:0", "f", written)
        assert read_as.finish == finish


def test_half_a_character_where_a_streamed_call_is_cut_is_not_shown(tokenizer):
    ids = encode_output(tokenizer, '[S>[C>functions.f:0[A>{"a": "')
    half = next(token for token in range(tokenizer.num_ranks) if tokenizer.token_bytes(token) == b"\xe6")
    made = read(choice_of(tokenizer, STREAMED), [*ids, half], (), LENGTH).calls
    assert made == (("functions.f:0", "f", '{"a": "'),)


def test_half_a_character_before_a_marker_becomes_a_replacement_mark_and_never_joins_what_follows(tokenizer):
    special = tokenizer.special
    halves = [token for token in range(tokenizer.num_ranks) if tokenizer.token_bytes(token) == b"\xe6"]
    tails = [
        token for token in range(tokenizer.num_ranks) if tokenizer.token_bytes(token) in (b"\x97", b"\xa5")
    ]
    assert halves
    assert len(tails) == 2
    half, tail = halves[0], sorted(tails, key=tokenizer.token_bytes)
    ids = [half, special.end_think, *tail, half, special.tool_calls_section_begin]
    for cuts in ((), range(len(ids))):
        assert read(choice_of(tokenizer, rules()), ids, cuts, LENGTH) == Message(
            "\ufffd", "\ufffd\ufffd\ufffd", (), "length"
        )


def test_a_replacement_mark_may_complete_a_stop_string(tokenizer):
    half = next(token for token in range(tokenizer.num_ranks) if tokenizer.token_bytes(token) == b"\xe6")
    end, more = tokenizer.special.end_think, tokenizer.encode("more")
    for ids in ([end, half, tokenizer.special.tool_calls_section_begin, *more], [end, half]):
        choice = choice_of(tokenizer, rules(), ("\ufffd",))
        assert read(choice, ids, (), LENGTH) == Message()


@pytest.mark.parametrize("separate", [True, False])
def test_stop_strings_are_looked_for_behind_the_reasoning_alone(tokenizer, separate):
    given = rules("f", separate_reasoning=separate)

    def shown(reasoning, content):
        return Message(reasoning, content) if separate else Message("", f"{reasoning}</think>{content}")

    assert message(tokenizer, "aXb</think>c", given, ("X",)) == shown("aXb", "c")
    assert message(tokenizer, "aXb</think>cXd", given, ("X",)) == shown("aXb", "c")
    assert message(tokenizer, "aX</think>Yb", given, ("XY", "X</think>Y")) == shown("aX", "Yb")
    assert message(tokenizer, "aX</think>b", given, ("</think>",)) == shown("aX", "b")
    drafted = message(tokenizer, f"aXb{CALL}", given, ("X",))
    assert (drafted.reasoning or drafted.content, drafted.calls) == ("aXb", MADE)


def test_in_an_instant_answer_stop_strings_are_looked_for_at_once(tokenizer):
    """A guard."""
    for separate in (True, False):
        given = rules(in_reasoning=False, separate_reasoning=separate)
        assert message(tokenizer, "aXb", given, ("X",)) == Message("", "a")


def test_without_rules_stop_strings_are_looked_for_everywhere(tokenizer):
    """A guard: a raw continuation has no reasoning."""
    assert message(tokenizer, "aXb</think>c", None, ("X",)).content == "a"


def test_stop_strings_are_not_looked_for_in_a_tool_section(tokenizer):
    output = 'c[S>STOP[C>functions.f:0[A>{"a": "STOP"}<C]<S]STOP'
    expected = Message("c", "", (("functions.f:0", "f", '{"a": "STOP"}'),), "tool_calls")
    assert message(tokenizer, output, rules("f"), ("STOP", "functions")) == expected


def test_what_might_have_become_a_stop_string_is_content_before_a_section(tokenizer):
    assert message(tokenizer, f"</think>STO{CALL}", rules("f"), ("STOP",)).content == "STO"


def test_ids_are_counted_over_the_conversation(tokenizer):
    output = "[S>[C>functions.f:0[A>{}<C][C>functions.g:1[A>{}<C]<S]"
    made = message(tokenizer, output, rules("f", "g", first_index=5)).calls
    assert [call_id for call_id, _, _ in made] == ["functions.f:5", "functions.g:6"]


def test_a_bare_index_means_the_only_declared_tool(tokenizer):
    assert message(tokenizer, '[S>[C>3[A>{"a": 1}<C]<S]', rules("f")).calls == MADE


SCHEMAS = {
    "f": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    "g": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def bare(call_id, arguments, schemas=SCHEMAS, dropped=None):
    calls = CallRules(
        frozenset(schemas),
        schemas=schemas,
        on_drop=(lambda reason: None) if dropped is None else dropped.append,
    )
    return OutputRules(calls=calls), f"[S>[C>{call_id}[A>{arguments}<C]<S]"


@pytest.mark.parametrize("call_id", ["0", "3", "", " ", "functions.:1", ":0", "functions.2"])
@pytest.mark.parametrize(
    ("arguments", "name"), [('{"a": 1}', "f"), ('{"city": "Oslo"}', "g"), ("{}", "g"), ("", "g")]
)
def test_a_call_without_a_name_means_the_only_tool_that_its_arguments_fit(
    tokenizer, call_id, arguments, name
):
    given, output = bare(call_id, arguments)
    assert message(tokenizer, output, given).calls == (("functions." + name + ":0", name, arguments or "{}"),)


@pytest.mark.parametrize(
    ("call_id", "arguments"),
    [("0", '{"b": 1}'), ("0", '{"a": "x"}'), ("0", "[1]"), ("0", "{"), ("k", '{"a": 1}')],
)
def test_a_call_that_fits_no_tool_is_dropped_and_counted(tokenizer, call_id, arguments):
    dropped = []
    given, output = bare(call_id, arguments, dropped=dropped)
    ids = [*encode_output(tokenizer, output), tokenizer.special.im_end]
    assert read(choice_of(tokenizer, given), ids) == Message()
    assert dropped == ["no_tool"]


def test_a_call_that_fits_several_tools_is_dropped_and_counted(tokenizer):
    dropped = []
    given, output = bare("0", '{"city": "Oslo"}', {"g": SCHEMAS["g"], "h": SCHEMAS["g"]}, dropped)
    assert read(choice_of(tokenizer, given), encode_output(tokenizer, output)) == Message()
    assert dropped == ["no_tool"]


@pytest.mark.parametrize(
    "output",
    [
        "</think>[C>functions.f:0<C]",
        "</think>[S>[C>functions.f:0<S]",
        "</think>[C>functions.f:0",
        '[S>[C>f[A>{"a"<S]',
    ],
)
def test_what_is_not_written_as_a_call_is_dropped_and_counted(tokenizer, output):
    dropped = []
    given, _ = bare("0", "{}", dropped=dropped)
    ids = [*encode_output(tokenizer, output), tokenizer.special.im_end]
    assert read(choice_of(tokenizer, given), ids) == Message()
    assert dropped == ["malformed"]


def test_without_declared_tools_a_section_gives_no_call_and_leaks_nothing(tokenizer):
    assert message(tokenizer, f"r</think>c{CALL}", rules()) == Message("r", "c")


def test_reasoning_tokens_are_those_before_the_content_however_it_is_shown(tokenizer):
    for separate in (True, False):
        for output, counted in (("<think>r s</think>c", "<think>r s</think>"), (f"r s{CALL}", "r s")):
            choice = choice_of(tokenizer, rules("f", separate_reasoning=separate))
            read(choice, encode_output(tokenizer, output))
            assert choice.reasoning_tokens == len(encode_output(tokenizer, counted))


def test_a_call_that_the_check_refuses_is_dropped_and_not_counted(tokenizer):
    asked = []

    def accept(name, arguments):
        asked.append((name, arguments))
        return arguments != "{}"

    given = OutputRules(calls=CallRules(frozenset(("f",)), accept=accept))
    output = '[S>[C>functions.f:0[A><C][C>functions.k:0[A>{}<C][C>functions.f:1[A>{"a": 1}<C]<S]'
    ids = [*encode_output(tokenizer, output), tokenizer.special.im_end]
    assert read(choice_of(tokenizer, given), ids) == Message("", "", MADE, "tool_calls")
    assert asked == [("f", "{}"), ("f", '{"a": 1}')]


def test_an_answer_whose_only_call_was_refused_just_stopped(tokenizer):
    given = OutputRules(calls=CallRules(frozenset(("f",)), accept=lambda name, arguments: False))
    assert message(tokenizer, CALL, given) == Message()


def test_an_error_of_the_check_is_the_errors_of_the_answer(tokenizer):
    def refuse(name, arguments):
        raise InvalidRequest(f"{name} was called with {arguments}")

    given = OutputRules(calls=CallRules(frozenset(("f",)), accept=refuse))
    with pytest.raises(InvalidRequest, match="f was called"):
        read(choice_of(tokenizer, given), encode_output(tokenizer, CALL))
