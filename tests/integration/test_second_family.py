"""A family defined only in the tests serves text: gateway, prefill and decode find it by its package."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.families.tern.checkpoint import MARKERS, SITE, write_checkpoint
from tests.support.reference_loop import ReferenceLoop
from tests.support.stack import Stack

QUESTION = "Where do terns go in winter? " * 10


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SITE)
        yield write_checkpoint(tmp_path_factory.mktemp("tern") / "tern")


@pytest.fixture(scope="module")
def terns(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    path = os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH"))))
    flags = {"gateway": {"vision": ""}}
    with Stack(checkpoint, tmp_path_factory.mktemp("terns"), flags, {"PYTHONPATH": path}) as stack:
        stack.start("prefill", "decode", "gateway")
        yield stack


def chat(stack: Stack, **body: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0, **body}
    return httpx.post(f"{stack.base_url}/v1/chat/completions", json=body, timeout=60, trust_env=False)


def expected_text(checkpoint: Path, num_tokens: int) -> str:
    """The text that a plain loop over the model generates."""
    prompt = [MARKERS["{{you}}"], *QUESTION.encode(), MARKERS["{{stop}}"], MARKERS["{{bird}}"]]
    tokens = ReferenceLoop(checkpoint).greedy(prompt, num_tokens, stop=frozenset({MARKERS["{{stop}}"]}))
    return bytes(token for token in tokens if token < 256).decode(errors="replace")


def test_its_text_is_that_of_a_plain_loop_over_the_model(terns, checkpoint):
    answer = chat(terns, max_tokens=40).json()
    [choice] = answer["choices"]
    assert choice["message"]["content"] == expected_text(checkpoint, 40)
    assert "tool_calls" not in choice["message"] or not choice["message"]["tool_calls"]
    assert answer["usage"]["prompt_tokens"] == len(QUESTION) + 3
    assert terns.counter("decode", "perigee_kv_transfer_bytes_total") > 0, "prefill computed the prompt"


def test_a_stream_gives_the_same_text(terns, checkpoint):
    lines = chat(terns, max_tokens=40, stream=True).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    pieces = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(pieces) == expected_text(checkpoint, 40)


def test_a_grammar_binds_its_answer(terns):
    [choice] = chat(terns, regex="[a-d]{3}-[0-9]{4}", max_tokens=30).json()["choices"]
    assert re.fullmatch("[a-d]{3}-[0-9]{4}", choice["message"]["content"])
    assert choice["finish_reason"] == "stop"


def test_tools_are_refused(terns):
    tool = {"type": "function", "function": {"name": "fly", "parameters": {"type": "object"}}}
    answer = chat(terns, tools=[tool])
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "the served model calls no tools"
