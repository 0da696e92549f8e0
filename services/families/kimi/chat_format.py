"""Kimi-K2.5's conversations and answers."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from services.families.conversation import Conversation, Json
from services.families.grammar import ToolGrammar
from services.families.kimi.chat.call_ids import next_call_index, normalise_call_ids
from services.families.kimi.chat.prompt import render
from services.families.kimi.output.parser import KimiParser
from services.families.kimi.tokenizer import KimiTokenizer
from services.families.kimi.tools.declaration import declared_names, template_variables
from services.families.kimi.tools.section_grammar import section_rules
from services.families.output import OutputRules
from services.families.prompt import RenderedPrompt


class KimiChat:
    """A ChatFormat."""

    takes_tools = True
    # A marker of its role, one behind its name and one at its end.
    markers_per_message = 3

    def __init__(self, tokenizer: KimiTokenizer) -> None:
        self.tokenizer = tokenizer

    def render(self, conversation: Conversation) -> RenderedPrompt:
        return render(normalise_call_ids(conversation), self.tokenizer)

    def template_variables(self, tools: Sequence[Json]) -> Mapping[str, Json]:
        return template_variables(tools)

    def starts_in_reasoning(self, conversation: Conversation) -> bool:
        return conversation.starts_in_reasoning

    def parser(
        self, stop: Sequence[str], rules: OutputRules | None, hidden: Container[int] | None = None
    ) -> KimiParser:
        return KimiParser(self.tokenizer, stop, rules, hidden)

    def declared_names(self, tools: Sequence[Json]) -> frozenset[str]:
        return declared_names(tools)

    def next_call_index(self, conversation: Conversation) -> int:
        return next_call_index(conversation)

    def section_rules(self, tools: Sequence[ToolGrammar], first_index: int, max_calls: int) -> str:
        return section_rules(tools, self.tokenizer.special, first_index, max_calls)
