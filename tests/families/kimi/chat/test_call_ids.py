from __future__ import annotations

from services.families.conversation import Conversation, Message, ToolCall
from services.families.kimi.chat.call_ids import normalise_call_ids


def calls(*pairs) -> Message:
    return Message("assistant", tool_calls=tuple(ToolCall(id, name, "{}") for id, name in pairs))


def result(id) -> Message:
    return Message("tool", tool_call_id=id)


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


def test_ids_of_our_own_stay_as_they_are():
    messages = (calls(("functions.f:0", "f"), ("functions.f:1", "f")), result("functions.f:1"))
    assert normalise_call_ids(Conversation(messages)).messages == messages


def test_a_repeated_id_means_the_latest_call():
    assert ids(calls(("c", "f")), result("c"), calls(("c", "g")), result("c")) == [
        ["functions.f:0"],
        "functions.f:0",
        ["functions.g:1"],
        "functions.g:1",
    ]


def test_a_call_without_a_name_and_a_result_of_no_call_keep_their_ids():
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
