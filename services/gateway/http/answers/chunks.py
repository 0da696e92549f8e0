"""Encodes stream events; for events that differ only in their text, the rest is encoded once."""

from __future__ import annotations

from services.gateway.http.answers import openai as shape
from services.gateway.http.answers.usage_options import Counted, UsageOptions
from services.gateway.http.shapes.base import encode
from services.gateway.http.shapes.chat import ReasoningField
from services.gateway.pipeline.output.events import ChoiceDelta, Completion

# Its JSON form never occurs after the text of a chunk.
_MARK = "\0"


class ChunkEncoder:
    """The chunks of one streamed chat, as JSON."""

    def __init__(
        self,
        head: Completion,
        usage: UsageOptions,
        generation: Counted,
        reasoning: ReasoningField = "reasoning_content",
    ) -> None:
        """`reasoning`: the name that reasoning has in a delta."""
        self._head = head
        self._reasoning = reasoning
        self._usage = usage
        self._generation = generation
        self._templates: dict[tuple[int, bool], tuple[bytes, bytes]] = {}
        self._begun: set[tuple[int, bool]] = set()

    def role(self, index: int) -> bytes:
        """A choice's first chunk."""
        return encode(shape.role_chunk(self._head, index, self._usage.in_chunk(self._generation)))

    def empty(self, index: int) -> bytes:
        """A chunk of a choice in which nothing is new."""
        return self._whole(ChoiceDelta(index))

    def delta(self, delta: ChoiceDelta) -> bytes:
        """The chunk of one delta."""
        if not self._is_text(delta):
            return self._whole(delta)
        kind = (delta.index, bool(delta.content))
        if kind not in self._begun:  # a template pays with the second one
            self._begun.add(kind)
            return self._whole(delta)
        before, after = self.around(delta.index, is_content=bool(delta.content))
        return before + encode(delta.content or delta.reasoning) + after

    @property
    def alike(self) -> bool:
        """Whether chunks of two texts differ only in the text."""
        return not self._usage.continuous

    def around(self, index: int, *, is_content: bool) -> tuple[bytes, bytes]:
        """The bytes before and after the text (a JSON string); valid only if `alike`."""
        kind = (index, is_content)
        template = self._templates.get(kind)
        if template is None:
            template = self._templates[kind] = self._template(*kind)
        return template

    def _is_text(self, delta: ChoiceDelta) -> bool:
        """Whether the delta holds only a piece of content or reasoning."""
        return self.alike and not delta.logprobs and bool(delta.content or delta.reasoning)

    def _template(self, index: int, is_content: bool) -> tuple[bytes, bytes]:
        """The bytes before and after the text."""
        like = ChoiceDelta(index, content=_MARK) if is_content else ChoiceDelta(index, reasoning=_MARK)
        before, _, after = self._whole(like).rpartition(encode(_MARK))
        return before, after

    def _whole(self, delta: ChoiceDelta) -> bytes:
        usage = self._usage.in_chunk(self._generation)
        return encode(shape.delta_chunk(self._head, delta, usage, self._reasoning))
