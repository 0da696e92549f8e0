from __future__ import annotations

import io

import pytest

from services.cli.chat.printer import ChatPrinter
from services.common.client import Content, Finished, Reasoning, ToolCallPart, Used


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(pieces, out=None):
    out, notes = out or io.StringIO(), io.StringIO()
    printer = ChatPrinter(out, notes)
    for piece in pieces:
        printer.show(piece)
    printer.close()
    return out.getvalue(), notes.getvalue()


def test_reasoning_is_quoted_and_the_answer_is_not():
    pieces = [
        Reasoning("first "),
        Reasoning("line\nsec"),
        Reasoning("ond"),
        Content("The "),
        Content("answer"),
    ]
    assert shown(pieces)[0] == "> first line\n> second\n\nThe answer\n"


def test_reasoning_is_dim_on_a_terminal():
    text, _ = shown([Reasoning("hm"), Content("yes")], Terminal())
    assert text == "\x1b[2mhm\x1b[0m\n\nyes\n"


def test_an_interrupted_thought_does_not_leave_the_terminal_dim():
    assert shown([Reasoning("hm")], Terminal())[0] == "\x1b[2mhm\x1b[0m\n"


def test_an_answer_without_reasoning_is_just_the_answer():
    assert shown([Content("yes")])[0] == "yes\n"


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x9b", "\r"])
def test_the_model_cannot_steer_the_terminal(character):
    assert shown([Content(f"a{character}b\tc\n")])[0] == "a\N{REPLACEMENT CHARACTER}b\tc\n"


def test_a_tool_call_shows_name_id_and_arguments():
    pieces = [ToolCallPart(0, "functions.f:0", "f", ""), ToolCallPart(0, "", "", '{"a": 1}')]
    assert shown(pieces)[0] == '\n[f functions.f:0] {"a": 1}\n'


def test_counts_and_an_early_end_are_notes_beside_the_answer():
    text, notes = shown([Content("yes"), Finished("length"), Used(5, 4, 3, 2)])
    assert text == "yes\n"
    assert notes == "[ended: length]\n[5 prompt tokens, 3 of them cached; 4 generated, 2 of them reasoning]\n"


def test_a_regular_end_is_not_remarked_on():
    assert shown([Content("yes"), Finished("stop")])[1] == ""
