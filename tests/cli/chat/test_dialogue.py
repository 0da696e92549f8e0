from __future__ import annotations

import io

import pytest

from services.cli.chat.answer import Answer
from services.cli.chat.conversation import Conversation
from services.cli.chat.dialogue import Dialogue
from services.common.client import Content
from services.common.errors import ContextLengthExceeded


class Model:
    """Repeats the last message in upper case; `requests`: what it was sent; `fails`: once, with this."""

    def __init__(self):
        self.requests = []
        self.fails = None

    def ask(self, messages):
        self.requests.append([(each.role, each.content[-1].text, len(each.content) - 1) for each in messages])
        failure, self.fails = self.fails, None
        yield Content(messages[-1].content[-1].text.upper())
        if failure:
            raise failure


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def hold(model):
    """Holds a conversation over these lines; returns the notes beside it."""

    def hold(*lines, **options):
        conversation, notes, left = Conversation(model.ask, **options), io.StringIO(), list(lines)

        def read(prompt):
            if not left:
                raise EOFError
            line = left.pop(0)
            if isinstance(line, BaseException):
                raise line
            return line

        def answer(text):
            for _ in conversation.say(text, Answer()):
                pass

        Dialogue(conversation, answer, read, notes).run()
        return notes.getvalue()

    return hold


def test_each_message_is_sent_with_all_that_was_said(model, hold):
    hold("one", "", "two", "three")
    one, two = ([("user", word, 0), ("assistant", word.upper(), 0)] for word in ("one", "two"))
    assert model.requests == [one[:1], [*one, *two[:1]], [*one, *two, ("user", "three", 0)]]


def test_a_line_that_ends_with_a_backslash_goes_on(model, hold):
    hold("one\\", "two")
    assert model.requests == [[("user", "one\ntwo", 0)]]


def test_an_image_goes_with_the_next_message_and_stays_in_the_conversation(model, hold, tmp_path):
    image = tmp_path / "a picture.png"
    image.write_bytes(b"png")
    hold(f"/image {image}", "what is it?", "and now?", images=[b"first"])
    assert [[count for *_, count in request] for request in model.requests] == [[2], [2, 0, 0]]


def test_the_system_message_can_change_and_end(model, hold):
    hold("/system be brief", "one", "/system", "two")
    assert model.requests[0][0] == ("system", "be brief", 0)
    assert [role for role, *_ in model.requests[1]] == ["user", "assistant", "user"]


def test_a_new_conversation_knows_nothing_of_the_one_before(model, hold):
    hold("one", "/new", "two", system="be brief")
    assert model.requests[1] == [("system", "be brief", 0), ("user", "two", 0)]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ContextLengthExceeded("too long")])
def test_a_turn_that_was_stopped_or_failed_is_forgotten_and_the_conversation_goes_on(model, hold, failure):
    model.fails = failure
    notes = hold("one", "two")
    assert model.requests[1] == [("user", "two", 0)]
    assert ("too long" if isinstance(failure, ContextLengthExceeded) else "stopped") in notes


def test_ctrl_c_at_the_prompt_says_how_to_end(model, hold):
    assert "Ctrl-D ends" in hold(KeyboardInterrupt(), "one")
    assert len(model.requests) == 1


@pytest.mark.parametrize("line", ["/quit", EOFError()])
def test_it_ends_at_quit_or_at_the_end_of_the_input(model, hold, line):
    hold(line, "one")
    assert not model.requests


@pytest.mark.parametrize(
    ("line", "noted"),
    [
        ("/help", "/image PATH"),
        ("/imge x", "/imge: no command; did you mean /image?"),
        ("/image", "/image needs a PATH"),
        ("/image /absent.png", "/image /absent.png: No such file"),
    ],
)
def test_a_command_that_sends_nothing_says_something(model, hold, line, noted):
    assert noted in hold(line)
    assert not model.requests
