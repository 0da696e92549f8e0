"""A conversation with a model: what was said, and what the next message carries."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from perigee.v1 import chat_pb2
from services.cli.chat.answer import Answer
from services.common.client import Piece, assistant_message, system_message, user_message
from services.common.errors import ConfigError

Ask = Callable[[Sequence[chat_pb2.Message]], Iterator[Piece]]
"""Sends messages and yields the answer."""
_MOST_IMAGE_BYTES = 64 << 20


class Conversation:
    """Turns of a user and of the model; a turn without a whole answer is forgotten."""

    def __init__(self, ask: Ask, system: str = "", images: Sequence[bytes] = ()) -> None:
        """`system`: what the model is told before; `images`: files that the first message carries."""
        self._ask = ask
        self.system = system
        self._turns: list[chat_pb2.Message] = []
        self._images = list(images)

    def attach(self, path: str) -> None:
        """Has the next message carry an image file. Raises ConfigError if it cannot be read."""
        self._images.append(read_image(path, "/image"))

    def forget(self) -> None:
        """Begins a new conversation; what the model is told before it stays."""
        self._turns.clear()
        self._images.clear()

    def say(self, text: str, answer: Answer) -> Generator[Piece, None, None]:
        """Yields the answer to the next message, and collects it in `answer`. Raises PerigeeError."""
        question = user_message(text, self._images)
        before = [system_message(self.system)] if self.system else []
        yield from answer.collect(self._ask([*before, *self._turns, question]))
        self._turns += [question, assistant_message(answer.content, answer.reasoning)]
        self._images.clear()


def read_image(path: str, flag: str) -> bytes:
    """Returns the bytes of a file. Raises ConfigError naming `flag` and the file if it cannot be read."""
    try:
        # What is no regular file does not say its size before.
        with Path(path).expanduser().open("rb") as file:
            data = file.read(_MOST_IMAGE_BYTES + 1)
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{flag} {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > _MOST_IMAGE_BYTES:
        raise ConfigError(f"{flag} {path}: has more than the {_MOST_IMAGE_BYTES:,} bytes that can be sent")
    return data
