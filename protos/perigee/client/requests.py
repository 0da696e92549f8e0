"""Requests built from plain values."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from perigee.client.errors import InvalidRequest
from perigee.client.messages import MessageLike, conversation
from perigee.v1 import chat_pb2, generation_pb2, sampling_pb2

Conversation = str | Iterable[MessageLike] | chat_pb2.ChatRequest
Prompt = str | Sequence[int] | generation_pb2.GenerateRequest

Request = TypeVar("Request", chat_pb2.ChatRequest, generation_pb2.GenerateRequest)


def chat_request(messages: Conversation, fields: Mapping[str, Any]) -> chat_pb2.ChatRequest:
    """Returns the request for a conversation; a ready ChatRequest is returned as it is, without `fields`.

    `fields` are those of ChatRequest and of SamplingParams, by name; None means absent. `tools` may be Tool
    messages or OpenAI's dicts. `response_format`: OpenAI's dict, in place of response_format_json. A text in
    place of several, such as `stop`, is one of them. Raises TypeError for an unknown name or a value of a
    wrong type, InvalidRequest for wrong messages and tools.
    """
    if isinstance(messages, chat_pb2.ChatRequest):
        return _ready(messages, fields)
    given = _present(fields)
    if "response_format" in given:
        given["response_format_json"] = json.dumps(given.pop("response_format"))
    if "tools" in given:
        given["tools"] = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(given["tools"])]
    return _filled(chat_pb2.ChatRequest(messages=conversation(messages)), given)


def generate_request(prompt: Prompt, fields: Mapping[str, Any]) -> generation_pb2.GenerateRequest:
    """Returns the request for a prompt, a text or token ids; otherwise as `chat_request`.

    `json_schema` may be a dict. Raises TypeError for a prompt of bytes, too.
    """
    if isinstance(prompt, generation_pb2.GenerateRequest):
        return _ready(prompt, fields)
    if isinstance(prompt, bytes | bytearray | memoryview):
        raise TypeError("the prompt is bytes; a text or token ids are needed")
    given = _present(fields)
    if isinstance(given.get("json_schema"), Mapping):
        given["json_schema"] = json.dumps(given["json_schema"])
    if isinstance(prompt, str):
        request = generation_pb2.GenerateRequest(text=prompt)
    else:
        request = generation_pb2.GenerateRequest(token_ids=generation_pb2.TokenIds(ids=prompt))
    return _filled(request, given)


def _ready(request: Request, fields: Mapping[str, Any]) -> Request:
    if fields:
        raise TypeError(f"{', '.join(fields)}: a ready {request.DESCRIPTOR.name} takes no further fields")
    return request


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _filled(request: Request, fields: Mapping[str, Any]) -> Request:
    own: Mapping[str, Any] = request.DESCRIPTOR.fields_by_name
    controls: Mapping[str, Any] = sampling_pb2.SamplingParams.DESCRIPTOR.fields_by_name
    for name, value in fields.items():
        if name in own:
            request.MergeFrom(_with_field(type(request), name, value))
        elif name in controls:
            request.sampling.MergeFrom(_with_field(sampling_pb2.SamplingParams, name, value))
        else:
            near = difflib.get_close_matches(name, [*own, *controls], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"{request.DESCRIPTOR.name} and SamplingParams have no field {name!r}{hint}")
    return request


def _with_field(kind: Any, name: str, value: Any) -> Any:
    if isinstance(value, str) and kind.DESCRIPTOR.fields_by_name[name].is_repeated:
        value = [value]  # else each of its characters would be one
    try:
        return kind(**{name: value})
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {error}") from error


def _tool(tool: Any, param: str) -> chat_pb2.Tool:
    if isinstance(tool, chat_pb2.Tool):
        return tool
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidRequest(
            f"{param} is no tool: a Tool or a dict with `function` and its name is needed", param
        )
    if tool.get("type", "function") not in (None, "function"):
        raise InvalidRequest(
            f"{param}.type is {tool['type']!r}; only functions can be called", f"{param}.type"
        )
    parameters = function.get("parameters")
    return chat_pb2.Tool(
        name=function["name"],
        description=function.get("description") or "",
        parameters_json="" if parameters is None else json.dumps(parameters),
        strict=function.get("strict") is True,
    )
