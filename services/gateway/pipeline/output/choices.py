"""The decoders of a request's choices: what of their output is taken apart, and how."""

from __future__ import annotations

from collections.abc import Sequence

from services.families.kimi.chat.call_ids import count_calls
from services.families.kimi.messages import Conversation
from services.families.kimi.output.calls import CallCheck, CallRules
from services.families.kimi.output.parser import OutputParser, OutputRules
from services.families.kimi.output.states import first_state
from services.families.kimi.tokenizer import Tokenizer
from services.families.kimi.tools.declaration import declared_names
from services.gateway.pipeline.output.choice import ChoiceDecoder
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest


class ChoiceMaker:
    """`reasoning`, `tool_calls`: which parsers this gateway has; without one, its part is raw content."""

    def __init__(self, tokenizer: Tokenizer, *, reasoning: bool, tool_calls: bool) -> None:
        self._tokenizer = tokenizer
        self._reasoning = reasoning
        self._tool_calls = tool_calls

    def make(
        self, request: GenerationRequest, prompt: Sequence[int], accept: CallCheck
    ) -> list[ChoiceDecoder]:
        """One per choice. `prompt`: the rendered one's ids, whose end says where the output begins; `accept`:
        asked before a call is released.
        """
        rules = self._rules(request, prompt, accept)
        hidden = () if request.sampling.keep_special_tokens else None
        return [
            ChoiceDecoder(
                self._tokenizer,
                index,
                request.sampling,
                OutputParser(self._tokenizer, request.sampling.stop, rules, hidden),
                silent_deltas=rules is None,
            )
            for index in range(request.choices)
        ]

    def _rules(
        self, request: GenerationRequest, prompt: Sequence[int], accept: CallCheck
    ) -> OutputRules | None:
        """None: a raw continuation."""
        if not isinstance(request.prompt, ChatPrompt):
            return None
        return OutputRules(
            first=first_state(prompt, self._tokenizer.special),
            separate_reasoning=self._reasoning and request.separate_reasoning,
            stream_reasoning=request.stream_reasoning,
            calls=_call_rules(request.prompt.conversation, accept) if self._tool_calls else None,
        )


def _call_rules(conversation: Conversation, accept: CallCheck) -> CallRules:
    return CallRules(declared_names(conversation.tools), count_calls(conversation), accept)
