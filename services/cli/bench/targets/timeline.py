"""What happened to one request, and when."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.cli.bench.workload.ask import Answer

_MOST_CALLS = 1024
"""More calls in one answer are a mistake of the endpoint."""


@dataclass
class Timeline:
    """Moments are seconds of the benchmark's clock. `start`: just before the connection was opened; `texts`:
    when each piece arrived that has text, reasoning or a part of a call; `end`: when the last byte arrived.
    `error`: why it failed, empty for a whole answer. Token counts are None where the endpoint gives none.
    """

    start: float
    texts: list[float] = field(default_factory=list)
    end: float = 0.0
    answer: Answer = field(default_factory=Answer)
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    error: str = ""

    def add_text(self, at: float, content: str, reasoning: str) -> None:
        """Records a piece of the answer, if there is any text in it."""
        if content or reasoning:
            self.texts.append(at)
            self.answer.content += content
            self.answer.reasoning += reasoning

    def add_call(self, at: float, index: int, call_id: str, name: str, arguments: str) -> None:
        """Records a piece of the tool call `index`; the texts are appended to what it has. Raises ValueError
        for an index that no call has.
        """
        if not 0 <= index < _MOST_CALLS:
            raise ValueError(f"the answer has a tool call of the index {index}")
        self.texts.append(at)
        calls = self.answer.calls
        while len(calls) <= index:
            calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        calls[index]["id"] += call_id
        calls[index]["function"]["name"] += name
        calls[index]["function"]["arguments"] += arguments
