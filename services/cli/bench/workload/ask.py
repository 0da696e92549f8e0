"""One request of a benchmark, whatever the endpoint, and a session of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Message = dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """A request: either `token_ids` to continue, or `messages` with `tools`, as OpenAI's API has them.

    `max_tokens`: the length of the answer, in tokens. `input_tokens`: the planned length of the prompt; what
    an endpoint does not count is taken to have this length.
    """

    max_tokens: int
    input_tokens: int
    token_ids: Sequence[int] = ()
    messages: Sequence[Message] = ()
    tools: Sequence[dict[str, Any]] = ()


@dataclass
class Answer:
    """What came back as text, for the next turn of a conversation. `calls`: OpenAI's `tool_calls`, whole."""

    content: str = ""
    reasoning: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    finish: str = ""


Turns = Generator[Ask, Answer, None]


class Session(Protocol):
    """Requests that follow each other: each but the first is made from the answers before it."""

    def turns(self) -> Turns:
        """Yields the requests; the answer to each is sent back."""
        ...
