"""The clients, and what each must find true."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).resolve().parent

ASSERTIONS = {
    "answer": "a whole answer has the known text, an id, finish `stop`, and usage that adds up",
    "stream": "a stream's pieces add up to the whole answer; its usage is that of the whole answer",
    "reasoning": "reasoning comes apart from the text, and is the same streamed",
    "call": "a named tool is called, with an id, arguments of its schema, and finish `tool_calls`",
    "streamed call": "streamed arguments come in pieces that add up to those of the whole answer",
    "call events": "the stream helper's events say when each call's arguments, and the text, are done",
    "count": "the tokens that are counted are those that the answer's usage adds up to",
    "models": "the served model is listed, and found by its name",
    "two calls": "two calls of one turn come one after the other, each with its id and its arguments",
    "loop": "the model calls a tool, reads its result and answers",
    "streamed loop": "the same, streamed",
    "structured": "structured output is of the type that was asked for",
    "streamed structured": "streamed structured output ends as the whole one",
    "400": "a wrong field raises the client's type for 400, with the field's name and a request id",
    "429": "overload raises the client's type for 429, with Retry-After",
    "retry": "a client that may retry waits as Retry-After says, and then gets its answer",
    "cancel": "a stream that is left ends its work on gateway and workers within a second",
}

COMMON = ("answer", "stream", "call", "streamed call", "loop", "structured", "400", "429", "cancel")


@dataclass(frozen=True)
class Client:
    """A client: its folder in `LANGUAGE/` here, and the keys of ASSERTIONS that its script shows."""

    name: str
    language: Literal["python", "node"]
    assertions: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where its script and its lock file are."""
        return FOLDER / self.language / self.name

    def __str__(self) -> str:
        return f"{self.language}-{self.name}"


# Instructor's loop is one typed call: it has no tools to run, and streams partial objects.
_TYPED = tuple(each for each in COMMON if each not in ("streamed call", "loop"))
_STREAMS = ("streamed loop", "streamed structured")
CLIENTS = (
    Client(
        "openai",
        "python",
        (*COMMON, "reasoning", "call events", "two calls", "streamed structured", "retry"),
    ),
    Client(
        "anthropic",
        "python",
        (*COMMON, "reasoning", "count", "models", "two calls", "retry"),
    ),
    Client("langchain", "python", (*COMMON, "two calls", "streamed loop")),
    Client("llama_index", "python", (*COMMON, "reasoning", *_STREAMS)),
    Client("pydantic_ai", "python", (*COMMON, "reasoning", "two calls", *_STREAMS)),
    Client("instructor", "python", (*_TYPED, "streamed structured")),
    Client("litellm", "python", (*COMMON, "reasoning", "two calls")),
    Client("smolagents", "python", (*COMMON, "streamed loop")),
    Client("openai", "node", (*COMMON, "reasoning", "call events", "two calls", *_STREAMS, "retry")),
    Client("vercel_ai", "node", (*COMMON, "reasoning", "two calls", *_STREAMS)),
)
