"""Are the tool calls of a running gateway valid under their schemas, at temperature 1, every time?

python -m evals.tool_calls [--url URL] [--count 300] [--max-tokens 1500] [--concurrency 8]

Each schema of evals/tool_schemas.py is asked for with stream and without, thinking and not, with tool_choice
required, named, and auto with a bias that opens a section. Exits with 1 unless every call is valid, no marker
shows anywhere, and 90 % of the requests finished a call.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from evals.tool_schemas import tool_schemas

SECTION = "<|tool_calls_section_begin|>"
_MARKERS = ("<|tool_call", "<think>", "</think>", "<|im_")


@dataclass
class Heard:
    """One answer, streamed or not."""

    reasoning: str = ""
    content: str = ""
    names: dict[int, str] = field(default_factory=dict)
    arguments: dict[int, str] = field(default_factory=dict)
    finish: str = ""
    error: str = ""

    def take(self, message: dict[str, Any]) -> None:
        """A message, or a delta to append."""
        self.reasoning += message.get("reasoning_content") or ""
        self.content += message.get("content") or ""
        for place, call in enumerate(message.get("tool_calls") or ()):
            index = call.get("index", place)
            function = call.get("function") or {}
            self.names[index] = function.get("name") or self.names.get(index, "")
            self.arguments[index] = self.arguments.get(index, "") + (function.get("arguments") or "")


def heard_whole(answer: dict[str, Any]) -> Heard:
    """Of a body of a chat completion, or of an error."""
    heard = Heard()
    if "error" in answer:
        heard.error = answer["error"]["message"]
        return heard
    [choice] = answer["choices"]
    heard.take(choice["message"])
    heard.finish = choice["finish_reason"] or ""
    return heard


def heard_events(lines: Iterable[str]) -> Heard:
    """Of the lines of an event stream."""
    heard = Heard()
    for line in lines:
        data = line.removeprefix("data: ")
        if not line.startswith("data: ") or data == "[DONE]":
            continue
        event = json.loads(data)
        if "error" in event:
            heard.error = event["error"]["message"]
        for choice in event.get("choices", ()):
            heard.take(choice["delta"])
            heard.finish = choice.get("finish_reason") or heard.finish
    return heard


def judge(heard: Heard, tool: dict[str, Any], *, streamed: bool) -> Iterator[str]:
    """What there is to say: "finished" for an answer with a call, and one word for each thing that is wrong.

    A stream whose last call was cut off by max_tokens has shown part of it: that one is no call.
    """
    if heard.error:
        yield "error"
        return
    texts = (heard.reasoning, heard.content, *heard.arguments.values())
    arguments = dict(heard.arguments)
    if streamed and heard.finish == "length" and arguments and not _is_json(arguments[max(arguments)]):
        del arguments[max(arguments)]
    function = tool["function"]
    validator = Draft202012Validator(
        function["parameters"], format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    for index, text in arguments.items():
        if heard.names[index] != function["name"]:
            yield "name"
        if not _is_json(text) or not validator.is_valid(json.loads(text)):
            yield "invalid"
    # The schemas have a constant with a marker in it, which is text like any other.
    constant = json.dumps('fixed "value" with <|tool_call_end|>')
    if any(marker in text.replace(constant, "") for text in texts for marker in _MARKERS):
        yield "leak"
    if arguments:
        yield "finished"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:30000")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--max-tokens", type=int, default=1500)
    parser.add_argument("--concurrency", type=int, default=8)
    options = parser.parse_args()
    results: dict[tuple[bool, bool, str], Counter[str]] = {}
    with httpx.Client(base_url=options.url, timeout=600) as client:
        made = client.post("/tokenize", json={"prompt": SECTION, "parse_special": True}).json()
        [section] = made["tokens"]

        def run(case: tuple[int, dict[str, Any], bool, bool, str]) -> None:
            number, tool, stream, thinking, choice = case
            body = _body(number, tool, stream, thinking, choice, options.max_tokens, section)
            if stream:
                with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                    heard = heard_events(answer.iter_lines())
            else:
                heard = heard_whole(client.post("/v1/chat/completions", json=body).json())
            verdict = list(judge(heard, tool, streamed=stream))
            results.setdefault((stream, thinking, choice), Counter()).update(["asked", *verdict])
            for word in sorted(set(verdict) - {"finished"}):
                print(f"{word}: tool {number}, stream={stream}, thinking={thinking}, {choice}: {heard}")

        cases = [
            (number, tool, *rest)
            for number, tool in enumerate(tool_schemas(options.count))
            for rest in itertools.product((True, False), (True, False), ("required", "named", "auto"))
        ]
        with ThreadPoolExecutor(options.concurrency) as executor:
            list(executor.map(run, cases))
    return _report(results)


def _body(
    number: int,
    tool: dict[str, Any],
    stream: bool,
    thinking: bool,
    choice: str,
    max_tokens: int,
    section: int,
) -> dict[str, Any]:
    named = {"type": "function", "function": {"name": tool["function"]["name"]}}
    return {
        "messages": [{"role": "user", "content": f"Call the tool, number {number}."}],
        "tools": [tool],
        "tool_choice": named if choice == "named" else choice,
        "logit_bias": {str(section): 100} if choice == "auto" else {},
        "temperature": 1.0,
        "seed": number,
        "max_tokens": max_tokens,
        "stream": stream,
        "thinking": {"type": "enabled" if thinking else "disabled"},
    }


def _report(results: dict[tuple[bool, bool, str], Counter[str]]) -> int:
    total: Counter[str] = Counter()
    for (stream, thinking, choice), counts in sorted(results.items()):
        total += counts
        kind = f"{'stream' if stream else 'whole':8}{'thinking' if thinking else 'instant':10}{choice:10}"
        print(f"{kind}{dict(counts)}")
    wrong = sum(total[word] for word in ("error", "name", "invalid", "leak"))
    share = total["finished"] / max(1, total["asked"])
    print(f"asked {total['asked']}, finished {share:.1%}, wrong {wrong}")
    return 0 if not wrong and share >= 0.9 else 1


if __name__ == "__main__":
    raise SystemExit(main())
