"""One choice between free text and its grammar, spoken by random logits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from services.common.errors import InvalidRequest
from services.decode.constraint.rules import ConstraintRules
from services.engine.sampling.spec import SamplingSpec
from tests.decode.constraint.test_closing import section_grammar

OBJECT = (
    'start: %json {"type": "object", "properties": {"a": {"type": "string", "maxLength": 8}},'
    ' "required": ["a"]}'
)
LIST = (
    'start: %json {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}},'
    ' "required": ["a"]}'
)
YES = 'start: "yes"'


@pytest.fixture
def marks(tokenizer):
    return tokenizer.special


@pytest.fixture
def section(marks):
    return section_grammar(marks, {"type": "object", "properties": {"q": {"type": "string", "maxLength": 9}}})


def bound(grammar: str, **fields) -> ConstraintRules:
    return ConstraintRules(
        grammar,
        in_reasoning=fields.get("in_reasoning", False),
        has_section=fields.get("has_section", False),
        waits_for_section=fields.get("waits_for_section", False),
        closes_calls=fields.get("closes_calls", False),
    )


def test_without_reasoning_the_grammar_begins_at_once(speaker, tokenizer, marks):
    said = speaker.speak(bound(YES), 20)
    assert said.end == "stop"
    assert said.tokens[-1] == marks.im_end
    assert tokenizer.decode(said.tokens[:-1]) == "yes"


def test_reasoning_is_free_until_the_model_ends_it(speaker, tokenizer, marks):
    said = speaker.speak(bound(YES, in_reasoning=True), 400, steer={30: marks.end_think})
    place = said.tokens.index(marks.end_think)
    assert place == 30
    assert tokenizer.decode(said.tokens[31:-1]) == "yes"
    assert len(set(said.tokens[:30])) > 20


@pytest.mark.parametrize("end", ["im_end", "eos"])
def test_the_end_of_the_turn_inside_reasoning_does_not_escape_the_grammar(speaker, tokenizer, marks, end):
    steer = dict.fromkeys(range(10), getattr(marks, end)) | {10: marks.end_think}
    said = speaker.speak(bound(YES, in_reasoning=True), 400, steer=steer)
    assert said.tokens.index(marks.end_think) == 10
    assert tokenizer.decode(said.tokens[11:-1]) == "yes"


def test_a_section_that_begins_inside_reasoning_is_the_grammars_first_token(speaker, marks, section):
    rules = bound(section, in_reasoning=True, has_section=True)
    said = speaker.speak(rules, 400, steer={7: marks.tool_calls_section_begin})
    assert said.end == "stop"
    assert marks.end_think not in said.tokens
    assert said.tokens.count(marks.tool_calls_section_begin) == 1
    assert said.tokens[7:9] == [marks.tool_calls_section_begin, marks.tool_call_begin]


def test_a_section_does_not_end_reasoning_where_no_call_may_follow(speaker, tokenizer, marks):
    steer = {7: marks.tool_calls_section_begin, 9: marks.end_think}
    said = speaker.speak(bound(YES, in_reasoning=True), 400, steer=steer)
    assert marks.tool_calls_section_begin not in said.tokens
    assert tokenizer.decode(said.tokens[10:-1]) == "yes"


def test_behind_reasoning_a_required_section_begins_by_itself(speaker, marks, section):
    rules = bound(section, in_reasoning=True, has_section=True)
    said = speaker.speak(rules, 400, steer={7: marks.end_think})
    assert said.tokens[7:10] == [marks.end_think, marks.tool_calls_section_begin, marks.tool_call_begin]


def test_reasoning_leaves_half_of_the_tokens_to_what_is_required(speaker, marks, section):
    rules = bound(section, in_reasoning=True, has_section=True)
    forbidden = SamplingSpec(logit_bias=((marks.end_think, -100.0), (marks.tool_calls_section_begin, -100.0)))
    said = speaker.speak(rules, 300, spec=forbidden)
    assert said.end == "stop"
    assert said.tokens.index(marks.end_think) == 149


def test_text_that_waits_for_a_section_may_end_without_one(speaker, marks, section):
    rules = bound(section, has_section=True, waits_for_section=True)
    said = speaker.speak(rules, 400, steer={12: marks.im_end})
    assert said.tokens[-1] == marks.im_end
    assert len(said.tokens) == 13


def test_once_a_section_begins_it_is_held_to_the_grammar(speaker, tokenizer, marks, section):
    rules = bound(section, in_reasoning=True, has_section=True, waits_for_section=True)
    said = speaker.speak(rules, 600, steer={3: marks.end_think, 9: marks.tool_calls_section_begin})
    assert said.end == "stop"
    text = tokenizer.decode(said.tokens[9:])
    assert text.startswith(
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"
    )
    assert text.endswith("}<|tool_call_end|><|tool_calls_section_end|><|im_end|>")


def test_markers_of_calls_do_not_come_outside_of_a_section(speaker, marks, section):
    stray = [
        marks.tool_call_begin,
        marks.tool_call_argument_begin,
        marks.tool_call_end,
        marks.tool_calls_section_end,
    ]
    steer = dict(enumerate(stray)) | {4: marks.im_end}
    said = speaker.speak(bound(section, has_section=True, waits_for_section=True), 50, steer=steer)
    assert not set(stray) & set(said.tokens)


def test_what_does_not_fit_into_max_tokens_is_closed_before_they_end(speaker, tokenizer):
    for seed in range(8):
        said = speaker.speak(bound(LIST), 60, seed)
        assert len(said.tokens) <= 60
        json.loads(tokenizer.decode(said.tokens[:-1]))
        if said.is_cut:
            assert said.end == "length"


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize(
    "fields", [{}, {"in_reasoning": True}, {"in_reasoning": True, "waits_for_section": True}]
)
def test_a_call_is_closed_before_max_tokens_cut_it_only_where_the_rules_say_so(
    speaker, marks, section, fields, closes
):
    grammar = section.replace('"maxLength": 9', '"minLength": 90, "maxLength": 400').replace(
        '"type": "object"', '"type": "object", "required": ["q"]', 1
    )
    rules = bound(grammar, has_section=True, closes_calls=closes, **fields)
    begin = {3: marks.tool_calls_section_begin} if fields else {}
    said = speaker.speak(rules, 160, steer=begin)
    assert said.is_cut is closes
    assert said.end == "length"
    assert (said.tokens[-1] == marks.im_end) is closes
    assert len(said.tokens) == 160 or closes


def test_an_answer_beside_tools_is_closed_all_the_same(speaker, tokenizer, marks, section):
    """A guard."""
    either = (
        section.replace("start:", "section:")
        + LIST.replace("start:", "answer:")
        + "\nstart: section | answer\n"
    )
    said = speaker.speak(
        bound(either, has_section=True), 40, steer=dict(enumerate(tokenizer.encode('{"a": ["b')))
    )
    assert (said.end, said.is_cut) == ("length", True)
    assert list(json.loads(tokenizer.decode(said.tokens[:-1]))) == ["a"]


def test_what_ends_by_itself_is_not_called_cut(speaker):
    said = speaker.speak(bound(OBJECT), 400)
    assert said.end == "stop"
    assert not said.is_cut


def test_where_no_end_fits_the_output_is_left_unfinished(speaker, marks):
    said = speaker.speak(bound('start: "a rather long text that must be said"'), 5)
    assert said.end == "length"
    assert len(said.tokens) == 5
    assert marks.im_end not in said.tokens


def test_the_grammar_outranks_minimum_length_and_bias(speaker, marks, tokenizer):
    spec = SamplingSpec(
        min_tokens=50,
        stop_token_ids=frozenset((marks.im_end,)),
        logit_bias=((marks.im_end, -100.0), (marks.tool_call_begin, 100.0)),
        temperature=0.0,
        presence_penalty=2.0,
    )
    said = speaker.speak(bound(YES), 20, spec=spec)
    assert tokenizer.decode(said.tokens[:-1]) == "yes"
    assert said.tokens[-1] == marks.im_end


def test_a_grammar_that_comes_to_nothing_is_an_error_that_names_the_request(speaker):
    said = speaker.speak(bound('start: "a" dead\ndead: "b" dead2\ndead2: /[^\\s\\S]/'), 20)
    assert said.end == "the grammar of request test: nothing that it allows can follow"


def test_a_choice_resumed_elsewhere_goes_on_as_it_would_have(speaker, marks, section):
    rules = bound(section, in_reasoning=True, has_section=True)
    whole = speaker.speak(rules, 120, steer={20: marks.end_think})
    for place in (5, 20, 21, 40, len(whole.tokens) - 2):
        resumed = speaker.speak(rules, 120, steer={20: marks.end_think}, outputs=whole.tokens[:place])
        assert resumed.tokens == whole.tokens, place


def test_choices_go_their_own_ways_from_the_same_place(speaker, tokenizer):
    first = speaker.constraint(bound(OBJECT), 100)
    second = first.fork()
    [brace] = tokenizer.encode("{")
    first.advance(brace)
    first.prepare()
    assert first.is_prepared
    ahead, behind = (np.unpackbits(each.allowed(), bitorder="little") for each in (first, second))
    assert behind[brace]
    assert not ahead[brace]


def test_a_choice_goes_on_where_others_have_filled_the_lexer_that_they_share(compiler, speaker, tokenizer):
    rules = ConstraintRules("start: /[bc]{1,30000}/", False, False, False)
    constraint = speaker.constraint(rules, 100)
    [letter] = tokenizer.encode("b")
    filler = compiler.compile(rules.grammar).matcher.deep_copy()
    while filler.consume_tokens([letter] * 500):
        pass
    assert constraint.advance(letter)
    assert not constraint.prepare()
    constraint.renew()
    assert constraint.allowed()[letter >> 3] >> (letter & 7) & 1


def test_a_grammar_that_needs_too_much_is_the_callers_mistake(speaker, tokenizer):
    rules = ConstraintRules("start: /[cd]{1,30000}/", False, False, False)
    [letter] = tokenizer.encode("c")
    constraint = speaker.constraint(rules, 30_000, [letter] * 19_000)

    def go_on():
        for _ in range(2_000):
            constraint.allowed()
            constraint.advance(letter)
            constraint.prepare() or constraint.renew()

    with pytest.raises(InvalidRequest, match="too many states") as refusal:
        go_on()
    assert refusal.value.param == "constraint.grammar"


def test_a_choice_that_takes_too_much_work_fails_alone(speaker, monkeypatch):
    rules = ConstraintRules('start: "x"{50}', False, False, False)
    constraint = speaker.constraint(rules, 100)
    other = constraint.fork()
    constraint._spent_s = 60.0
    for each in (constraint, other):
        token = next(i for i in range(2304) if each.allowed()[i >> 3] >> (i & 7) & 1)
        each.advance(token)
        each.prepare()
    assert other.allowed() is not None
    with pytest.raises(InvalidRequest, match="of work"):
        constraint.allowed()


def test_a_thousand_optional_properties_can_be_said(speaker):
    names = {f"property {number}": {"type": "integer"} for number in range(1_000)}
    schema = {"type": "object", "properties": names, "additionalProperties": False}
    rules = ConstraintRules(f"start: %json {json.dumps(schema)}", False, False, False)
    assert speaker.speak(rules, 40).end in ("stop", "length")
