"""The decoders of a request's choices: what of their output is taken apart, and how."""

from __future__ import annotations

from services.families.conversation import Conversation
from services.families.family import ChatFormat
from services.families.output import CallCheck, CallRules, OutputRules
from services.gateway.pipeline.output.choice import ChoiceDecoder
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest


class ChoiceMaker:
    """`reasoning`, `tool_calls`: which parsers this gateway has; without one, its part is raw content."""

    def __init__(self, chat: ChatFormat, *, reasoning: bool, tool_calls: bool) -> None:
        self._chat = chat
        self._reasoning = reasoning
        self._tool_calls = tool_calls

    def make(self, request: GenerationRequest, accept: CallCheck) -> list[ChoiceDecoder]:
        """One per choice. `accept`: asked before a call is released."""
        rules = self._rules(request, accept)
        hidden = () if request.sampling.keep_special_tokens else None
        return [
            ChoiceDecoder(
                self._chat.tokenizer,
                index,
                request.sampling,
                self._chat.parser(request.sampling.stop, rules, hidden),
                silent_deltas=rules is None,
            )
            for index in range(request.choices)
        ]

    def _rules(self, request: GenerationRequest, accept: CallCheck) -> OutputRules | None:
        """None: a raw continuation."""
        if not isinstance(request.prompt, ChatPrompt):
            return None
        conversation = request.prompt.conversation
        reads_calls = self._tool_calls and self._chat.takes_tools
        return OutputRules(
            in_reasoning=self._chat.starts_in_reasoning(conversation),
            separate_reasoning=self._reasoning and request.separate_reasoning,
            stream_reasoning=request.stream_reasoning,
            calls=self._call_rules(conversation, accept) if reads_calls else None,
        )

    def _call_rules(self, conversation: Conversation, accept: CallCheck) -> CallRules:
        return CallRules(self._chat.declared_names(conversation.tools), conversation.num_calls, accept)
