"""Makes bodies that are right field by field right as a whole, and cheap to answer."""

from __future__ import annotations

from typing import Any

from tests.gateway.pictures import data_url, picture

MOST_TOKENS, MOST_CHOICES, MOST_PROMPTS = 4, 2, 3
# Right whatever the other fields are.
_FORMS = {
    "response_format": {"type": "json_object"},
    "json_schema": {"type": "boolean"},
    "regex": "[a-z]{1,9}",
    "ebnf": 'root ::= "yes" | "no"',
}
_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}


def completed(case: Any) -> Any:
    """The case, its body changed where fields exclude or need each other, or are texts of a language."""
    body, path = case.body, case.operation.path
    if isinstance(body, dict):
        body.pop("model", None)
        if "tokenize" not in path:
            body["stream"] = bool(len(body) % 2)  # left to chance, few would be
        if path.startswith("/v1/messages"):
            _settle_messages(body)
        elif path == "/generate":
            _settle_generate(body)
        elif "detokenize" not in path:
            _settle_answer(body, "max_tokens", "min_tokens")
            _settle_chat(body) if body.get("messages") else _settle_completion(body)
    return case


def _settle_answer(body: dict[str, Any], most: str, least: str) -> None:
    """A short answer of one form."""
    body[most] = (body.get(most) or 0) % (MOST_TOKENS + 1)
    body.pop(least, None)
    if body.get("n"):
        body["n"] = min(body["n"], MOST_CHOICES)
    forms = [form for form in _FORMS if body.pop(form, None)]
    if forms:
        body[forms[0]] = _FORMS[forms[0]]


def _settle_completion(body: dict[str, Any]) -> None:
    body.pop("best_of", None)
    if not body.get("stream"):
        body.pop("stream_options", None)
    if body.get("logprobs") is not None:
        body["echo"] = False
    if isinstance(body.get("prompt"), list) and not isinstance(body["prompt"][0], int):
        del body["prompt"][MOST_PROMPTS:]


def _settle_generate(body: dict[str, Any]) -> None:
    for field in ("text", "input_ids"):
        if isinstance(body.get(field), list) and not isinstance(body[field][0], int):
            del body[field][MOST_PROMPTS:]
    for field in ("sampling_params", "return_logprob", "top_logprobs_num", "rid", "logprob_start_len"):
        if isinstance(body.get(field), list):  # one entry per prompt
            body[field] = body[field][0] if body[field] else None
    body["logprob_start_len"] = -1
    body["sampling_params"] = body.get("sampling_params") or {}
    _settle_answer(body["sampling_params"], "max_new_tokens", "min_new_tokens")


def _settle_messages(body: dict[str, Any]) -> None:
    body["max_tokens"] = (body.get("max_tokens") or 0) % (MOST_TOKENS + 1)
    body["output_config"] = None
    for turn in body.get("messages") or []:
        if turn["role"] == "assistant" or not isinstance(turn.get("content"), list):
            turn |= {"role": "user", "content": "Hi"}
            continue
        allowed = ("text", "image") if turn["role"] == "user" else ("text",)
        turn["content"] = [_settled_block(block) for block in turn["content"] if block["type"] in allowed]
    tools = body.get("tools") or []
    for number, tool in enumerate(tools):
        tool |= {"name": f"tool_{number}", "type": None, "input_schema": _PARAMETERS}
    if not tools:
        body.pop("tool_choice", None)
    elif (body.get("tool_choice") or {}).get("type") == "tool":
        body["tool_choice"]["name"] = "tool_0"


def _settled_block(block: dict[str, Any]) -> dict[str, Any]:
    if block["type"] == "image":
        block["source"] = {"type": "url", "url": data_url(picture())}
    return block


def _settle_chat(body: dict[str, Any]) -> None:
    body.pop("max_completion_tokens", None)
    body.pop("continue_final_message", None)
    body["add_generation_prompt"] = True
    if not body.get("stream"):
        body.pop("stream_options", None)
    if body.get("top_logprobs"):
        body["logprobs"] = True
    for message in body["messages"]:
        _settle_message(message)
    tools = body.get("tools") or []
    for number, tool in enumerate(tools):
        function = tool.get("function") or tool
        function["name"], function["parameters"] = f"tool_{number}", _PARAMETERS
    if isinstance(body.get("tool_choice"), dict):
        body["tool_choice"] = {"type": "function", "name": "tool_0"}
    if not tools:
        body.pop("tool_choice", None)


def _settle_message(message: dict[str, Any]) -> None:
    message["partial"] = message["function_call"] = message["audio"] = None
    if not isinstance(message.get("content"), list):
        return
    for part in message["content"]:
        kind = part["type"]
        if kind == "image_url":
            part["image_url"] = {"url": data_url(picture())}
        elif kind == "video_url" or (kind == "refusal" and message["role"] != "assistant"):
            part |= {"type": "text", "text": kind}
