"""Holds a conversation at a terminal: reads messages and commands, line by line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TextIO

from services.cli.chat.conversation import Conversation
from services.common.errors import PerigeeError
from services.common.settings import did_you_mean

_PROMPT, _MORE = "> ", ". "
_COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "/image": "PATH  send an image with the next message",
        "/system": "TEXT  tell the model this before the conversation; without TEXT nothing",
        "/new": "begin a new conversation",
        "/help": "show this",
        "/quit": "end; so does Ctrl-D",
    }
)
_HELP = "\n".join(
    [
        *(f"  {name} {text}" for name, text in _COMMANDS.items()),
        "  A line that ends with \\ goes on in the next one. Ctrl-C ends an answer.",
    ]
)


class Dialogue:
    """Reads until the end of the input or /quit."""

    def __init__(
        self,
        conversation: Conversation,
        answer: Callable[[str], None],
        read: Callable[[str], str],
        notes: TextIO,
    ) -> None:
        """`answer` shows the answer to a message; it raises KeyboardInterrupt if the user ends it, else
        PerigeeError. `read` takes a prompt and returns a line; it raises EOFError at the end.
        """
        self._conversation = conversation
        self._answer = answer
        self._read = read
        self._notes = notes

    def run(self) -> None:
        """Returns when the user has ended it."""
        self._note("/help lists commands; Ctrl-D ends")
        while True:
            try:
                text = self._message()
            except EOFError:
                return
            except KeyboardInterrupt:
                self._note("\n(Ctrl-D ends)")
                continue
            if text == "/quit":
                return
            try:
                self._take(text)
            except KeyboardInterrupt:
                self._note("\n[stopped; this turn is forgotten]")
            except PerigeeError as error:
                self._note(f"[{error.message}]")

    def _message(self) -> str:
        """Returns the next message or command. Raises EOFError at the end."""
        lines = [self._read(_PROMPT)]
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            lines.append(self._read(_MORE))
        return "\n".join(lines).strip()

    def _take(self, text: str) -> None:
        if not text.startswith("/"):
            if text:
                self._answer(text)
            return
        name, _, rest = text.partition(" ")
        match name, rest.strip():
            case "/image", "":
                self._note("[/image needs a PATH]")
            case "/image", path:
                self._conversation.attach(path)
                self._note("[goes with the next message]")
            case "/system", words:
                self._conversation.system = words
                self._note("[from the next message on]" if words else "[nothing from the next message on]")
            case "/new", _:
                self._conversation.forget()
                self._note("[a new conversation]")
            case "/help", _:
                self._note(_HELP)
            case _:
                self._note(f"[{name}: no command{did_you_mean(name, _COMMANDS)}]")

    def _note(self, text: str) -> None:
        self._notes.write(text + "\n")
        self._notes.flush()
