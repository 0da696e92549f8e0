"""Checks that every tool call of a running gateway is valid under its schema at temperature 1.

Each schema of evals/tool_schemas.py is requested with stream and without, with thinking and without, and with
tool_choice required, named, and auto, where a logit bias opens a section. With thinking, a logit bias favours
the end of the reasoning, which random weights would otherwise never reach. The exit status is 0 only if every
call is valid, no answer contains a marker, and 90 % of the requests finished a call.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evals.endpoint import Endpoint, Failed, at_once, first_model
from evals.observed_answer import ObservedAnswer
from evals.progress import ProgressBar
from evals.tool_schemas import MARKED, tool_schemas

TARGET = 0.9
SECTION = "<|tool_calls_section_begin|>"
END_OF_THINKING = "</think>"
# On the embedded model's random weights this gives a reasoning of a few dozen tokens.
THINKING_BIAS = 4.0
CHOICES = ("required", "named", "auto")
WRONG = ("error", "name", "invalid", "finish", "leak")


@dataclass(frozen=True)
class Case:
    """One request; `number` is the number of the tool, and also the seed."""

    number: int
    tool: dict[str, Any]
    stream: bool
    thinking: bool
    choice: str

    @property
    def kind(self) -> str:
        """The name of the case's row in the table."""
        streamed = "stream" if self.stream else "whole"
        return f"{streamed:7} {'thinking' if self.thinking else 'instant':9} {self.choice}"

    def body(self, model: str, max_tokens: int, biases: dict[str, dict[str, float]]) -> dict[str, Any]:
        """The body of the chat completion; `biases` maps each marker to its logit biases."""
        named = {"type": "function", "function": {"name": self.tool["function"]["name"]}}
        bias: dict[str, float] = {}
        if self.choice == "auto":
            bias |= biases[SECTION]
        if self.thinking:
            bias |= biases[END_OF_THINKING]
        body = {
            "model": model,
            "messages": [{"role": "user", "content": f"Call the tool, number {self.number}."}],
            "tools": [self.tool],
            "tool_choice": named if self.choice == "named" else self.choice,
            "logit_bias": bias,
            "temperature": 1.0,
            "seed": self.number,
            "max_tokens": max_tokens,
            "chat_template_kwargs": {"thinking": self.thinking},
        }
        return body | ({"stream": True, "stream_options": {"include_usage": True}} if self.stream else {})


def all_cases(count: int, first: int = 0) -> list[Case]:
    """Twelve cases of each tool, starting at tool number `first`."""
    return [
        Case(number, tool, *rest)
        for number, tool in enumerate(tool_schemas(count)[first:], first)
        for rest in itertools.product((False, True), (False, True), CHOICES)
    ]


class Run:
    """Sends the requests and counts the verdicts by kind of case."""

    def __init__(self, endpoint: Endpoint, model: str, max_tokens: int, bar: ProgressBar) -> None:
        self._endpoint = endpoint
        self._model = model
        self._max_tokens = max_tokens
        self._bar = bar
        self._biases: dict[str, dict[str, float]] = {}
        self.counts: dict[str, Counter[str]] = {}
        self.complaints: list[str] = []

    async def prepare(self) -> None:
        """Looks up the ids of the markers."""
        for marker, bias in ((SECTION, 100.0), (END_OF_THINKING, THINKING_BIAS)):
            made = await self._endpoint.post("/tokenize", {"prompt": marker, "parse_special": True})
            self._biases[marker] = {str(token): bias for token in made["tokens"]}

    async def ask(self, case: Case) -> None:
        """Sends one request and counts its verdict."""
        observed = await self._ask(case, case.body(self._model, self._max_tokens, self._biases))
        words = list(observed.verdict(case.tool, [MARKED]))
        counts = self.counts.setdefault(case.kind, Counter())
        counts.update(["asked", *words])
        counts["tokens"] += observed.tokens
        counts["calls"] += len(observed.arguments)
        wrong = sorted(set(words) & set(WRONG))
        if wrong:
            self.complaints.append(f"{', '.join(wrong)}: tool {case.number}, {case.kind}: {asdict(observed)}")
        self._bar.add(not wrong)

    async def _ask(self, case: Case, body: dict[str, Any]) -> ObservedAnswer:
        try:
            if case.stream:
                return ObservedAnswer.of_events(await self._endpoint.events("/v1/chat/completions", body))
            return ObservedAnswer.of(await self._endpoint.post("/v1/chat/completions", body))
        except Failed as error:
            return ObservedAnswer(error=str(error))


def summary(counts: dict[str, Counter[str]]) -> dict[str, Any]:
    """The result as written to the file; `passed` decides the exit status."""
    total: Counter[str] = sum(counts.values(), Counter())
    wrong = {word: total[word] for word in WRONG}
    finished = total["finished"] / max(1, total["asked"])
    return {
        "asked": total["asked"],
        "calls": total["calls"],
        "tokens": total["tokens"],
        "finished": finished,
        "wrong": wrong,
        "passed": not any(wrong.values()) and finished >= TARGET,
        "kinds": {kind: dict(counts[kind]) for kind in sorted(counts)},
    }


def table(result: dict[str, Any]) -> str:
    """The result as a table of text."""
    lines = [f"{'':28} {'asked':>6} {'finished':>9} {'calls':>6} {'wrong':>6}"]
    for kind, counts in result["kinds"].items():
        wrong = sum(counts.get(word, 0) for word in WRONG)
        finished, calls = counts.get("finished", 0), counts.get("calls", 0)
        lines.append(f"{kind:28} {counts['asked']:6} {finished:9} {calls:6} {wrong:6}")
    wrong = sum(result["wrong"].values())
    lines.append(f"{'all':28} {result['asked']:6} {result['finished']:9.1%} {result['calls']:6} {wrong:6}")
    return "\n".join(lines)


async def _main(options: argparse.Namespace) -> int:
    endpoint = Endpoint(options.url)
    cases = all_cases(options.count, options.first)
    began = time.monotonic()
    try:
        model = await first_model(endpoint)
        run = Run(endpoint, model, options.max_tokens, ProgressBar(len(cases), sys.stderr))
        await run.prepare()
        await at_once(cases, options.concurrency, run.ask)
    except Failed as error:
        print(f"evals: {options.url} {error}", file=sys.stderr)
        return 1
    finally:
        await endpoint.close()
    result = {"model": model, "max_tokens": options.max_tokens} | summary(run.counts)
    result["seconds"] = round(time.monotonic() - began, 1)
    print(*run.complaints, table(result), sep="\n")
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if result["passed"] else 1


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m evals.tool_calls",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:30000", help="of the gateway (default: that of make run)")
    add("--count", type=int, default=300, help="how many schemas (default: 300)")
    add("--first", type=int, default=0, help="number of the first of them, to go on with a run (default: 0)")
    add("--max-tokens", type=int, default=1500)
    add("--concurrency", type=int, default=16, help="requests at once (default: 16)")
    add("--out", type=Path, metavar="FILE", help="write the result there as JSON")
    sys.exit(asyncio.run(_main(parser.parse_args())))


if __name__ == "__main__":
    main()
