from __future__ import annotations

import pytest

from services.families.conversation import Conversation, Message, ToolCall
from services.families.kimi.chat.call_ids import next_call_index, normalise_call_ids


def calls(*pairs) -> Message:
    return Message("assistant", tool_calls=tuple(ToolCall(id, name, "{}") for id, name in pairs))


def result(id, name="") -> Message:
    return Message("tool", tool_call_id=id, name=name)


def ids(*messages):
    turns = normalise_call_ids(Conversation(messages)).messages
    return [[call.id for call in turn.tool_calls] or turn.tool_call_id for turn in turns]


def test_calls_are_numbered_over_the_whole_conversation_and_results_follow():
    assert ids(
        calls(("call_a", "f"), ("call_b", "g.h")),
        result("call_b"),
        result("call_a"),
        calls(("x", "f")),
        result("x"),
    ) == [
        ["functions.f:0", "functions.g.h:1"],
        "functions.g.h:1",
        "functions.f:0",
        ["functions.f:2"],
        "functions.f:2",
    ]


@pytest.mark.parametrize("first", [0, 7, 123_456_789])
def test_native_ids_stay_as_they_are_whatever_their_number(first):
    """A shortened history does not begin at 0. A guard where it does."""
    messages = (
        calls((f"functions.f:{first}", "f"), (f"functions.g.h:{first + 1}", "g.h")),
        result(f"functions.g.h:{first + 1}"),
        result(f"functions.f:{first}"),
    )
    conversation = Conversation(messages)
    assert normalise_call_ids(conversation).messages == messages
    assert next_call_index(conversation) == first + 2


@pytest.mark.parametrize(
    "foreign",
    [
        "call_1",
        "functions.g:0",
        "functions.f:",
        "functions.f:x",
        "functions.f:1234567890",
        "f:0",
        "functions.f:\u0663",
        "",
    ],
)
def test_an_id_that_is_not_native_to_its_call_is_rewritten(foreign):
    assert ids(calls((foreign, "f")), result(foreign)) == [["functions.f:0"], "functions.f:0"]


def test_a_foreign_id_gets_the_next_free_number_behind_native_ones():
    assert ids(calls(("functions.f:7", "f"), ("x", "f"), ("y", "g")), result("y"), result("x")) == [
        ["functions.f:7", "functions.f:8", "functions.g:9"],
        "functions.g:9",
        "functions.f:8",
    ]
    assert ids(calls(("x", "f")), calls(("functions.f:0", "f"))) == [["functions.f:1"], ["functions.f:0"]]


def test_the_next_call_is_numbered_behind_all_others():
    assert next_call_index(Conversation(())) == 0
    assert next_call_index(Conversation((calls(("a", "f"), ("b", "f")),))) == 2
    assert next_call_index(Conversation((calls(("functions.f:5", "f"), ("b", "f")), result("b")))) == 7
    assert next_call_index(Conversation((calls(("functions.f:0", "f")), calls(("functions.f:0", "f"))))) == 2


def test_a_repeated_id_in_a_later_turn_means_the_later_call():
    """A guard."""
    assert ids(calls(("c", "f")), result("c"), calls(("c", "g")), result("c")) == [
        ["functions.f:0"],
        "functions.f:0",
        ["functions.g:1"],
        "functions.g:1",
    ]


@pytest.mark.parametrize("id", ["c", ""])
def test_the_nth_result_with_an_id_belongs_to_the_nth_call_with_it(id):
    assert ids(calls((id, "f"), (id, "g"), (id, "f")), result(id), result(id), result(id)) == [
        ["functions.f:0", "functions.g:1", "functions.f:2"],
        "functions.f:0",
        "functions.g:1",
        "functions.f:2",
    ]


def test_also_where_the_calls_with_one_id_are_in_several_turns():
    assert ids(calls(("c", "f")), calls(("c", "g"), ("d", "h")), result("d"), result("c"), result("c")) == [
        ["functions.f:0"],
        ["functions.g:1", "functions.h:2"],
        "functions.h:2",
        "functions.f:0",
        "functions.g:1",
    ]


def test_a_result_too_many_belongs_to_the_last_call_with_its_id():
    """A guard."""
    assert ids(calls(("c", "f")), result("c"), result("c"))[1:] == ["functions.f:0"] * 2


def test_a_result_without_an_id_belongs_to_the_first_unanswered_call_of_its_name():
    made = calls(("", "f"), ("", "g"), ("", "f"))
    assert ids(made, result("", "g"), result("", "f"), result("", "f"))[1:] == [
        "functions.g:1",
        "functions.f:0",
        "functions.f:2",
    ]


def test_where_no_call_has_its_name_to_the_first_unanswered_call():
    made = calls(("a", "f"), ("b", "g"), ("c", "h"))
    assert ids(made, result("b"), result("", "tool"), result(""))[1:] == [
        "functions.g:1",
        "functions.f:0",
        "functions.h:2",
    ]


def test_a_result_without_an_id_and_without_a_call_stays_as_it_is():
    """A guard."""
    assert ids(calls(("c", "f")), result("c"), result(""))[2] == ""


def test_a_message_of_the_user_ends_the_wait_for_results():
    user = Message("user")
    assert ids(calls(("c", "f")), user, calls(("c", "g")), result("c"))[3] == "functions.g:1"
    assert ids(calls(("", "f")), user, calls(("", "g")), result(""))[3] == "functions.g:1"
    assert ids(calls(("c", "f")), user, result("c"))[2] == "functions.f:0"


def test_very_many_calls_and_results_are_matched_in_one_pass():
    count = 20_000
    made = ids(calls(*[("c", "f")] * count), *[result("c")] * count)
    assert made[0] == made[1:]


def test_a_call_without_a_name_and_a_result_of_no_call_keep_their_ids():
    """A guard."""
    assert ids(result("orphan"), calls(("functions.f:7", ""), ("c", "g"))) == [
        "orphan",
        ["functions.f:7", "functions.g:1"],
    ]


def test_the_rest_of_the_conversation_is_untouched():
    given = Conversation(
        (Message("user", name="n"), calls(("c", "f"))), ({"type": "function"},), thinking=False
    )
    normal = normalise_call_ids(given)
    assert normal.messages[0] == given.messages[0]
    assert (normal.tools, normal.thinking) == (given.tools, given.thinking)
    assert normal.messages[1].tool_calls[0].arguments == "{}"
