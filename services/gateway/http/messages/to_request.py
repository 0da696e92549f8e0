"""A Messages body as the pipeline's request."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from services.common.errors import InvalidRequest
from services.common.sampling.params import from_json
from services.families.conversation import Conversation, Json, Message, TextPart
from services.families.model_profile import ModelProfile
from services.gateway.constraint.output_format import JsonAnswer, OutputFormat, ToolChoice
from services.gateway.http.messages.billing import without_billing
from services.gateway.http.messages.body import (
    AnyChoice,
    CountBody,
    MessagesBody,
    MessagesToolBody,
    NoChoice,
    TextBlock,
    ToolChoiceBody,
)
from services.gateway.http.messages.turns import Turns
from services.gateway.pipeline.prompt.declared_tools import declared_functions
from services.gateway.pipeline.prompt.thinking import Switch, thinking_mode
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest

_NAMES: Mapping[str, str] = MappingProxyType({"stop": "stop_sequences"})


def request_from_messages(
    body: MessagesBody, vocab_size: int, profile: ModelProfile, *, drops_billing: bool
) -> GenerationRequest:
    """Raises InvalidRequest or UnsupportedValue naming the field. The other arguments: see
    `prompt_from_messages`.
    """
    return GenerationRequest(
        model=body.model or "",
        prompt=prompt_from_messages(body, profile, drops_billing=drops_billing),
        sampling=from_json(
            {
                "max_tokens": body.max_tokens,
                "temperature": body.temperature,
                "top_p": body.top_p,
                "top_k": body.top_k,
                "stop": body.stop_sequences,
            },
            vocab_size,
            _field_name,
        ),
        field_name=_field_name,
        prompt_param="messages",
        output=_output(body),
    )


def prompt_from_messages(body: CountBody, profile: ModelProfile, *, drops_billing: bool) -> ChatPrompt:
    """What the template renders. `drops_billing`: whether the system prompt loses its billing header.

    Raises InvalidRequest or UnsupportedValue naming the field.
    """
    if not body.messages:
        raise InvalidRequest("at least one message is needed", "messages")
    turns = Turns()
    if system := _system(body.system, drops_billing=drops_billing):
        turns.messages.append(Message("system", (TextPart(system),)))
    for index, turn in enumerate(body.messages):
        turns.add(turn, f"messages[{index}]")
    continues = turns.messages[-1].role == "assistant"
    if continues and turns.messages[-1].tool_calls:
        place = f"messages[{len(body.messages) - 1}]"
        raise InvalidRequest(f"{place}: results of its calls must follow", place)
    tools = () if isinstance(body.tool_choice, NoChoice) else _tools(body.tools or [])
    mode = thinking_mode(profile, _thinking(body, profile), None)
    conversation = Conversation(
        tuple(turns.messages), tools, mode.thinking, not continues, continues, mode.preserve_thinking
    )
    return ChatPrompt(conversation, tuple(turns.media), frozenset(turns.unreasoned))


def hosted_tools(body: CountBody) -> list[str]:
    """The types of the tools that the model does not see."""
    return [tool.type for tool in body.tools or () if tool.type and tool.type != "custom"]


def _field_name(control: str) -> str:
    return _NAMES.get(control, control)


def _system(given: str | list[TextBlock] | None, *, drops_billing: bool) -> str:
    """The blocks' texts, each on lines of its own."""
    texts = [given or ""] if not isinstance(given, list) else [block.text for block in given]
    if drops_billing:
        texts = [without_billing(text) for text in texts]
    return "\n".join(text for text in texts if text)


def _tools(tools: list[MessagesToolBody]) -> tuple[Json, ...]:
    """Those that are functions, in the form that templates take."""
    functions = []
    for index, tool in enumerate(tools):
        if tool.type not in (None, "custom"):
            continue
        if not tool.name:
            raise InvalidRequest(f"tools[{index}].name is missing", f"tools[{index}].name")
        function: dict[str, Json] = {"name": tool.name}
        if tool.description is not None:
            function["description"] = tool.description
        function["parameters"] = tool.input_schema or {"type": "object"}
        if tool.strict is not None:
            function["strict"] = tool.strict
        functions.append({"type": "function", "function": function})
    return declared_functions(functions, "tools")


def _thinking(body: CountBody, profile: ModelProfile) -> Switch | None:
    """Without `thinking` there is none, as this protocol has it; None: of a model that always thinks."""
    if body.thinking is not None:
        return Switch(body.thinking.type != "disabled", "thinking.type")
    return None if profile.always_thinks else Switch(False, "thinking")


def _output(body: MessagesBody) -> OutputFormat:
    choice = body.tool_choice
    kind: ToolChoice = "auto"
    if isinstance(choice, NoChoice):
        return _format(body, "none", "", parallel=True)
    if isinstance(choice, ToolChoiceBody):
        kind = "function"
    elif isinstance(choice, AnyChoice):
        kind = "required"
    name = choice.name if isinstance(choice, ToolChoiceBody) else ""
    return _format(body, kind, name, parallel=not (choice and choice.disable_parallel_tool_use))


def _format(body: MessagesBody, choice: ToolChoice, name: str, *, parallel: bool) -> OutputFormat:
    schema = body.output_config.format if body.output_config else None
    return OutputFormat(
        tool_choice=choice,
        tool_name=name,
        parallel=parallel,
        answer=None if schema is None else JsonAnswer(schema.schema, "output_config.format.schema"),
        names_param="tool_choice.name" if name else "tool_choice",
        function_path="",
        parameters_path=".input_schema",
    )
