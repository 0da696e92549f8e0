"""Requests that hold a word which no service may log: at every place where a client can put text."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.gateway.pictures import data_url, picture

CANARY = "Schnabeltier"

_SCHEMA = {
    "type": "object",
    "properties": {CANARY: {"type": "string", "enum": [CANARY], "description": CANARY}},
    "required": [CANARY],
}
_TOOL = {"type": "function", "function": {"name": CANARY, "description": CANARY, "parameters": _SCHEMA}}
_CALL = {
    "id": CANARY,
    "type": "function",
    "function": {"name": CANARY, "arguments": json.dumps({CANARY: CANARY})},
}
_CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": CANARY},
        {"role": "user", "content": [{"type": "text", "text": CANARY}], "name": CANARY},
        {"role": "assistant", "content": CANARY, "reasoning_content": CANARY, "tool_calls": [_CALL]},
        {"role": "tool", "content": CANARY, "tool_call_id": CANARY, "name": CANARY},
        {"role": "user", "content": CANARY},
    ],
    "max_tokens": 2,
    "cache_salt": CANARY,
    "stop": [CANARY],
    "user": CANARY,
    "metadata": {CANARY: CANARY},
}
_ANTHROPIC: dict[str, Any] = {
    "model": "kimi-nano",
    "max_tokens": 2,
    "system": [{"type": "text", "text": CANARY, "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": CANARY}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": CANARY, "signature": CANARY},
                {"type": "text", "text": CANARY},
                {"type": "tool_use", "id": CANARY, "name": CANARY, "input": {CANARY: CANARY}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": CANARY, "content": CANARY}]},
    ],
    "stop_sequences": [CANARY],
    "metadata": {"user_id": CANARY},
}
_ANTHROPIC_TOOL = {"name": CANARY, "description": CANARY, "input_schema": _SCHEMA}
_TEXT = {"max_tokens": 2, "stop": CANARY, "user": CANARY, "cache_salt": CANARY}
_RAW = {"max_new_tokens": 2, "stop": [CANARY]}


def _with_part(part: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}], "max_tokens": 2}


def _with_url(kind: str, url: str) -> dict[str, Any]:
    return _with_part({"type": kind, kind: {"url": url, "detail": "auto"}})


_IMAGE = picture()
_URLS = (
    f"file:///{CANARY}.png", f"https://{CANARY}.invalid/{CANARY}.png", f"http://{CANARY}:{CANARY}@127.0.0.1/",
    f"http://127.0.0.1:1/{CANARY}?{CANARY}#{CANARY}", f"http://[{CANARY}]/", f"{CANARY}:{CANARY}", CANARY,
    f"data:image/png;name={CANARY}.png;base64,{CANARY}", f"data:{CANARY},{CANARY}",
    data_url(_IMAGE[:40] + CANARY.encode() + _IMAGE[40:]), data_url(CANARY.encode()),
    data_url(b"\0\0\0\x20ftypisom" + CANARY.encode() * 9, "video/mp4"),
)  # fmt: skip

RIGHT: dict[str, tuple[dict[str, Any], ...]] = {
    "/v1/chat/completions": (
        _CHAT,
        _CHAT | {"stream": True, "tools": [_TOOL], "tool_choice": "auto"},
        _CHAT | {"tools": [_TOOL], "tool_choice": {"type": "function", "function": {"name": CANARY}}},
        _CHAT
        | {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": CANARY, "description": CANARY, "schema": _SCHEMA},
            }
        },
        _CHAT | {"regex": f"{CANARY}+"},
        _CHAT | {"ebnf": f'root ::= "{CANARY}"'},
        _with_url("image_url", data_url(_IMAGE, f"image/png;name={CANARY}.png")),
    ),
    "/v1/completions": (
        {"prompt": CANARY, **_TEXT},
        {"prompt": [CANARY, CANARY], "stream": True, **_TEXT},
        {"prompt": CANARY, "echo": True, "logprobs": 1, **_TEXT},
    ),
    "/generate": (
        {"text": CANARY, "sampling_params": _RAW},
        {"text": [CANARY], "stream": True, "sampling_params": _RAW | {"json_schema": json.dumps(_SCHEMA)}},
        {"text": CANARY, "return_logprob": True, "logprob_start_len": 0, "sampling_params": _RAW},
    ),
    "/v1/messages": (
        _ANTHROPIC,
        _ANTHROPIC | {"stream": True, "tools": [_ANTHROPIC_TOOL], "tool_choice": {"type": "auto"}},
        _ANTHROPIC | {"tools": [_ANTHROPIC_TOOL], "tool_choice": {"type": "tool", "name": CANARY}},
    ),
    "/v1/messages/count_tokens": (
        {name: _ANTHROPIC[name] for name in ("model", "system", "messages")},
        _ANTHROPIC | {"tools": [_ANTHROPIC_TOOL]},
    ),
    "/tokenize": ({"prompt": CANARY}, {"messages": _CHAT["messages"], "tools": [_TOOL]}),
    "/detokenize": ({"tokens": [1, 2]},),
}
"""Good bodies of every route that takes one."""

_WRONG: dict[str, tuple[Any, ...]] = {
    "/v1/chat/completions": (
        *(_with_url(kind, url) for kind in ("image_url", "video_url") for url in _URLS),
        *(_with_part({"type": kind, kind: CANARY}) for kind in (CANARY, "file", "input_audio")),
        _CHAT | {"regex": f"({CANARY}"},
        _CHAT | {"ebnf": f"root ::= {CANARY}"},
        _CHAT | {"tools": [_TOOL, _TOOL]},
        _CHAT | {"tools": [_TOOL], "tool_choice": {"type": "function", "function": {"name": f"{CANARY}2"}}},
        _CHAT | {"chat_template": CANARY, "chat_template_kwargs": {CANARY: CANARY}},
        _CHAT
        | {"response_format": {"type": "json_schema", "json_schema": {"name": CANARY, "schema": CANARY}}},
        _CHAT | {"messages": [{"role": "user", "content": f"{CANARY} " * 20_000}]},
    ),
    "/v1/messages": (
        *(
            _ANTHROPIC | {"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}
            for source in (
                *({"type": "url", "url": url} for url in _URLS),
                {"type": "base64", "data": CANARY, "media_type": CANARY},
            )
        ),
        _ANTHROPIC | {"tools": [_ANTHROPIC_TOOL, _ANTHROPIC_TOOL]},
        _ANTHROPIC | {"tools": [_ANTHROPIC_TOOL], "tool_choice": {"type": "tool", "name": f"{CANARY}2"}},
    ),
    "/generate": ({"text": CANARY, "sampling_params": {"json_schema": f'{{"{CANARY}": {CANARY}'}},),
}


def bodies() -> Iterator[tuple[str, bytes]]:
    """(route, body): good ones; the first of each route with the canary in place of, below, and beside each
    of its values; wrong ones; and what is no JSON.
    """
    for route, rights in RIGHT.items():
        for right in rights:
            yield route, _json(right)
        for changed in _changed(rights[0]):
            yield route, _json(changed)
        for wrong in _WRONG.get(route, ()):
            yield route, _json(wrong)
        yield route, _json(rights[0])[:-1] + CANARY.encode()
        yield route, CANARY.encode()
        yield route, b'"\xff' + CANARY.encode()


def _json(body: Any) -> bytes:
    return json.dumps(body).encode()


def _changed(body: Any) -> Iterator[Any]:
    for path in _paths(body):
        for value in (CANARY, {CANARY: CANARY}, [CANARY]):
            made = copy.deepcopy(body)
            at = made
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = value
            yield made
    yield {**body, CANARY: CANARY}
    yield {**body, "model": CANARY}


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from _paths(each, (*path, key))


HEADERS = (
    ("X-Request-Id", f"{CANARY} {CANARY}"), ("Host", CANARY), ("Origin", f"http://{CANARY}"),
    ("User-Agent", CANARY), ("Content-Type", CANARY), ("Content-Encoding", CANARY), ("Cookie", CANARY),
    ("Authorization", f"Bearer {CANARY}"), ("x-api-key", CANARY), ("Expect", CANARY), (CANARY, CANARY),
)  # fmt: skip
PATHS = (
    f"/{CANARY}", f"/v1/models/{CANARY}", f"/v1/chat/completions/{CANARY}", f"/metrics?{CANARY}={CANARY}",
    f"/../{CANARY}", f"/health?{CANARY}", f"/ready/{CANARY}",
)  # fmt: skip


def messages(empty: Message, skip: frozenset[str] = frozenset()) -> Iterator[Message]:
    """The message with the canary in each of its texts, one after another, and in all at once.

    `skip`: names of fields that stay as they are.
    """
    everywhere = type(empty)()
    for path in _texts(empty.DESCRIPTOR, skip):
        alone = type(empty)()
        alone.CopyFrom(empty)
        for message in (alone, everywhere):
            _put(message, path)
        yield alone
    yield everywhere


def _texts(descriptor: Any, skip: frozenset[str], depth: int = 4) -> Iterator[tuple[FieldDescriptor, ...]]:
    for field in descriptor.fields:
        if field.name in skip:
            continue
        if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            yield (field,)
        elif field.type == FieldDescriptor.TYPE_MESSAGE and depth:
            for rest in _texts(field.message_type, skip, depth - 1):
                yield (field, *rest)


def _put(message: Any, path: tuple[FieldDescriptor, ...]) -> None:
    field = path[0]
    if len(path) > 1:
        inner = getattr(message, field.name)
        if field.is_repeated:
            inner = inner[0] if len(inner) else inner.add()
        else:
            inner.SetInParent()
        _put(inner, path[1:])
        return
    value: Any = CANARY if field.type == FieldDescriptor.TYPE_STRING else CANARY.encode()
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)
