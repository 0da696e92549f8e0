"""Talking to /v1/messages."""

from __future__ import annotations

import json
from typing import Any

import httpx

from tests.gateway.suite import Suite
from tests.gateway.tools import section

VERSION = {"anthropic-version": "2023-06-01"}
WRITE_FILE = {
    "name": "write_file",
    "description": "Writes a file.",
    "input_schema": {
        "type": "object",
        "properties": {"path": {"type": "string"}, "content": {"type": "string"}},
        "required": ["path", "content"],
    },
}
ARGUMENTS = json.dumps({"path": "a.py", "content": "print('hello')\n" * 6})


def written_call(arguments: str = ARGUMENTS, name: str = "write_file", index: int = 0) -> str:
    """A call of the tool, as the model writes it."""
    begin = f"<|tool_call_begin|>functions.{name}:{index}<|tool_call_argument_begin|>"
    return section(f"{begin}{arguments}<|tool_call_end|>")


def message_body(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1000, **fields}


async def post(suite: Suite, path: str = "/v1/messages", **fields: Any) -> httpx.Response:
    """Posts a short conversation unless told otherwise."""
    return await suite.http.post(path, json=message_body(**fields), headers=VERSION)


async def counted(suite: Suite, **fields: Any) -> int:
    """What /v1/messages/count_tokens says of the same body."""
    answer = await post(suite, "/v1/messages/count_tokens", **fields)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["input_tokens"])


async def events(suite: Suite, **fields: Any) -> list[dict[str, Any]]:
    """The events of a streamed message, after checking their framing and names."""
    answer = await post(suite, stream=True, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return parsed(answer.text)


def parsed(text: str) -> list[dict[str, Any]]:
    """The documents of an event stream, each named by its type."""
    pieces = text.split("\n\n")
    assert pieces.pop() == ""
    found = []
    for piece in pieces:
        name, data = piece.split("\n")
        document = json.loads(data.removeprefix("data: "))
        assert name == f"event: {document['type']}"
        found.append(document)
    return found


def blocks_of(stream: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks that are begun, filled and ended in a stream, after checking that they come one by one.

    A block without an end has `cut`; a call's `input` is what its pieces spell, as text.
    """
    blocks: list[dict[str, Any]] = []
    for event in stream:
        if event["type"] == "content_block_start":
            assert not blocks or not blocks[-1].get("cut")
            assert event["index"] == len(blocks)
            block = {**event["content_block"], "cut": True}
            if block["type"] == "tool_use":
                assert block["input"] == {}
                block["input"] = ""
            blocks.append(block)
        elif event["type"] == "content_block_delta":
            assert event["index"] == len(blocks) - 1
            assert blocks[-1]["cut"]
            kind = event["delta"]["type"]
            field = "input" if kind == "input_json_delta" else kind.removesuffix("_delta")
            blocks[-1][field] += event["delta"]["partial_json" if field == "input" else field]
        elif event["type"] == "content_block_stop":
            assert event["index"] == len(blocks) - 1
            del blocks[-1]["cut"]
    return blocks
