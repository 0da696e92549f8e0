"""Turns of a marker, the text and a stop; an answer is content, all of it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from services.families.conversation import Conversation, Json, TextPart
from services.families.grammar import ToolGrammar
from services.families.output import OutputRules, Piece, TextKind
from services.families.prompt import RenderedPrompt
from services.families.text.text_lane import TextLane
from tern.tokenizer import TernTokenizer

_ROLES = {"user": "{{you}}", "assistant": "{{bird}}"}


class TernChat:
    """A ChatFormat."""

    takes_tools = False
    markers_per_message = 2

    def __init__(self, tokenizer: TernTokenizer) -> None:
        self.tokenizer = tokenizer

    def render(self, conversation: Conversation) -> RenderedPrompt:
        ids: list[int] = []
        text = ""
        for message in conversation.messages:
            marker = _ROLES.get(message.role, "{{note}}")
            said = "".join(part.text for part in message.content if isinstance(part, TextPart))
            ids += [self.tokenizer.ids[marker], *self.tokenizer.encode(said), self.tokenizer.end_of_turn]
            text += f"{marker}{said}{{{{stop}}}}"
        if conversation.continues:
            ids.pop()
            text = text.removesuffix("{{stop}}")
        elif conversation.add_generation_prompt:
            ids.append(self.tokenizer.ids["{{bird}}"])
            text += "{{bird}}"
        return RenderedPrompt(tuple(ids), text, ())

    def template_variables(self, tools: Sequence[Json]) -> Mapping[str, Json]:
        return {}

    def starts_in_reasoning(self, conversation: Conversation) -> bool:
        return False

    def parser(
        self, stop: Sequence[str], rules: OutputRules | None, hidden: Container[int] | None = None
    ) -> TernParser:
        return TernParser(TextLane(self.tokenizer, stop, hidden))

    def declared_names(self, tools: Sequence[Json]) -> frozenset[str]:
        raise NotImplementedError

    def next_call_index(self, conversation: Conversation) -> int:
        raise NotImplementedError

    def section_rules(self, tools: Sequence[ToolGrammar], first_index: int, max_calls: int) -> str:
        raise NotImplementedError


class TernParser:
    """An OutputParser."""

    reasoning_tokens = num_calls = 0
    is_unfinished = False
    text_kind = TextKind.CONTENT

    def __init__(self, lane: TextLane) -> None:
        self._lane = lane

    @property
    def num_characters(self) -> int:
        return self._lane.num_characters

    @property
    def inside(self) -> bool:
        return self._lane.inside

    @property
    def matched_stop(self) -> str:
        return self._lane.matched_stop

    @property
    def plain(self) -> TextKind | None:
        return TextKind.CONTENT if self._lane.free else None

    def count_plain(self) -> None: ...

    def feed(self, token_id: int) -> bool:
        return self._lane.feed(token_id)

    def end(self, *, by_model: bool) -> bool:
        return self._lane.end()

    def take(self) -> Piece:
        return Piece("", self._lane.take(), ())
