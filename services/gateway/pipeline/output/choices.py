"""The decoders of a request's choices: what of their output is taken apart, and how."""

from __future__ import annotations

from collections.abc import Callable

from services.families.conversation import Conversation, Json
from services.families.family import ChatFormat
from services.families.output import CallCheck, CallRules, DropReason, OutputRules, ignore_drop
from services.gateway.constraint.output_format import OutputFormat
from services.gateway.pipeline.output.choice import ChoiceDecoder
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest


class ChoiceMaker:
    """`reasoning`, `tool_calls`: which parsers this gateway has; without one, its part is raw content."""

    def __init__(self, chat: ChatFormat, *, reasoning: bool, tool_calls: bool) -> None:
        self._chat = chat
        self._reasoning = reasoning
        self._tool_calls = tool_calls

    def make(
        self,
        request: GenerationRequest,
        accept: CallCheck,
        on_drop: Callable[[DropReason], None] = ignore_drop,
    ) -> list[ChoiceDecoder]:
        """One per choice. `accept`: asked before a call is released; `on_drop`: called for each dropped call.

        Stop strings cut no answer that is calls or has a form: it would be neither then.
        """
        rules = self._rules(request, accept, on_drop)
        hidden = () if request.sampling.keep_special_tokens else None
        stop = () if request.output.promises_form else request.sampling.stop
        return [
            ChoiceDecoder(
                self._chat.tokenizer,
                index,
                request.sampling,
                self._chat.parser(stop, rules, hidden),
                silent_deltas=rules is None,
            )
            for index in range(request.choices)
        ]

    def _rules(
        self, request: GenerationRequest, accept: CallCheck, on_drop: Callable[[DropReason], None]
    ) -> OutputRules | None:
        """None: a raw continuation."""
        if not isinstance(request.prompt, ChatPrompt):
            return None
        conversation = request.prompt.conversation
        reads_calls = self._tool_calls and self._chat.takes_tools
        return OutputRules(
            in_reasoning=self._chat.starts_in_reasoning(conversation),
            separate_reasoning=self._reasoning and request.separate_reasoning,
            stream_reasoning=request.stream_reasoning,
            calls=self._call_rules(conversation, request.output, accept, on_drop) if reads_calls else None,
        )

    def _call_rules(
        self,
        conversation: Conversation,
        output: OutputFormat,
        accept: CallCheck,
        on_drop: Callable[[DropReason], None],
    ) -> CallRules:
        declared = self._chat.declared_names(conversation.tools)
        schemas = {
            name: schema for name, schema in map(_named_schema, conversation.tools) if name in declared
        }
        return CallRules(
            tools=frozenset(filter(output.may_call, declared)),
            first_index=self._chat.next_call_index(conversation),
            accept=accept,
            schemas={name: schema for name, schema in schemas.items() if output.may_call(name)},
            on_drop=on_drop,
        )


def _named_schema(tool: Json) -> tuple[str, Json]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return "", None
    return function["name"], function.get("parameters")
