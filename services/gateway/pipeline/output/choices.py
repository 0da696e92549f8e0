"""The decoders of a request's choices: what of their output is taken apart, and how."""

from __future__ import annotations

from dataclasses import replace

from services.families.conversation import Conversation, Json
from services.families.family import ChatFormat
from services.families.output import CallRules, OutputRules
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
        calls: CallRules,
    ) -> list[ChoiceDecoder]:
        """One per choice. `calls`: without what the request says: names, schemas and the first number.

        Stop strings cut no answer that is calls or has a form: it would be neither then.
        """
        rules = self._rules(request, calls)
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

    def _rules(self, request: GenerationRequest, calls: CallRules) -> OutputRules | None:
        """None: a raw continuation."""
        if not isinstance(request.prompt, ChatPrompt):
            return None
        conversation = request.prompt.conversation
        reads_calls = self._tool_calls and self._chat.takes_tools
        return OutputRules(
            in_reasoning=self._chat.starts_in_reasoning(conversation),
            separate_reasoning=self._reasoning and request.separate_reasoning,
            stream_reasoning=request.stream_reasoning,
            calls=self._call_rules(conversation, request.output, calls) if reads_calls else None,
        )

    def _call_rules(self, conversation: Conversation, output: OutputFormat, calls: CallRules) -> CallRules:
        if not conversation.tools:
            return calls
        declared = self._chat.declared_names(conversation.tools)
        schemas = {
            name: schema for name, schema in map(_named_schema, conversation.tools) if name in declared
        }
        return replace(
            calls,
            tools=frozenset(filter(output.may_call, declared)),
            first_index=self._chat.next_call_index(conversation),
            schemas={name: schema for name, schema in schemas.items() if output.may_call(name)},
        )


def _named_schema(tool: Json) -> tuple[str, Json]:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return "", None
    return function["name"], function.get("parameters")
