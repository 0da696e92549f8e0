"""Messages over the real suite: what an agent's accounting line costs, and a call that is cut."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from tests.support.stack import Stack

PAGE = 64


def post(suite: Stack, path: str, **fields: Any) -> dict[str, Any]:
    """The answer to a short conversation unless told otherwise."""
    asked = urllib.request.Request(
        f"{suite.base_url}/v1/messages{path}?beta=true",
        json.dumps({"max_tokens": 2, **fields}).encode(),
        {"Content-Type": "application/json", "anthropic-version": "2023-06-01"},
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def conversation(checksum: str, words: int) -> dict[str, Any]:
    """A first request as a coding agent sends it; its checksum is no part of the prompt."""
    header = f"x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli; cch={checksum};"
    system = [{"type": "text", "text": text} for text in (header, "You write programs. " * 250)]
    return {"system": system, "messages": [{"role": "user", "content": "word " * words}]}


def test_of_requests_that_differ_in_the_checksum_alone_the_second_is_cached(suite):
    # Few tokens more than whole pages: the rest, at least the last token, is computed anew.
    words = next(
        words
        for words in range(1, 200)
        if post(suite, "/count_tokens", **conversation("00000", words))["input_tokens"] % PAGE in (1, 2, 3)
    )
    counted = post(suite, "/count_tokens", **conversation("00000", words))["input_tokens"]
    first, second = (post(suite, "", **conversation(each, words))["usage"] for each in ("fa690", "0aaa9"))
    for usage in (first, second):
        assert usage["input_tokens"] + usage["cache_read_input_tokens"] == counted
    assert second["cache_read_input_tokens"] >= 0.99 * counted
    assert first["cache_read_input_tokens"] < 0.5 * counted
