"""Measures what a conversation costs as it grows: time to the first token, turn by turn.

python -m benchmarks.multi_turn [--url URL] [--conversations 8] [--turns 10] [--words 10]

Runs against a running suite, or against one worker of each kind that it starts. Every turn's question has the
same number of words; the last turn is compared with the first turn of another conversation that has as many
tokens as the last one had new. The conversations run one after another; a line of the table is the median
over them, and so is the ratio. Exits with 1 if the last turn takes more than 1.5 times as long.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fleet import Fleet
from benchmarks.result import write_result

BOUND = 1.5
MODEL = Path("models/kimi-nano")
WORDS = ("river", "stone", "light", "garden", "window", "paper", "morning", "silver", "bridge", "winter")


@dataclass(frozen=True)
class Turn:
    """`seconds` to the first token of the answer; `cached_tokens` of the `prompt_tokens` were not
    computed.
    """

    seconds: float
    prompt_tokens: int
    cached_tokens: int

    @property
    def new_tokens(self) -> int:
        """Prompt tokens that were computed."""
        return self.prompt_tokens - self.cached_tokens


class Conversation:
    """Questions of random words, each after all earlier questions and their answers."""

    def __init__(self, client: httpx.Client, model: str, words: int, seed: str) -> None:
        self._client, self._model, self._words = client, model, words
        self._dice = random.Random(seed)
        self._messages: list[dict[str, str]] = []

    def turn(self) -> Turn:
        """Asks the next question and reads the whole answer. The clock starts when the request is already
        serialised, because the client library's time for a long list of messages is not the suite's.
        """
        question = " ".join(self._dice.choices(WORDS, k=self._words))
        self._messages.append({"role": "user", "content": question})
        body = {
            "model": self._model,
            "messages": self._messages,
            "max_tokens": 24,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "thinking": {"type": "disabled"},
            "ignore_eos": True,
        }
        request = self._client.build_request("POST", "/v1/chat/completions", json=body)
        began = time.perf_counter()
        first, answer, usage = 0.0, "", None
        for chunk in _chunks(self._client.send(request, stream=True)):
            usage = chunk.get("usage") or usage
            said = "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
            if said and not answer:
                first = time.perf_counter() - began
            answer += said
        self._messages.append({"role": "assistant", "content": answer})
        assert usage is not None
        details = usage.get("prompt_tokens_details") or {}
        return Turn(first, usage["prompt_tokens"], details.get("cached_tokens", 0))


def _chunks(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of an answer, up to the last one."""
    with closing(response):
        response.raise_for_status()
        for line in response.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line.removeprefix("data: "))


@dataclass(frozen=True)
class Talk:
    """A conversation's turns, and the first turn of another one with as many new tokens as the last
    of them.
    """

    turns: list[Turn]
    fresh: Turn


def measure(url: str, conversations: int, turns: int, words: int) -> list[Talk]:
    """Runs all conversations; one more, of other words, warms the suite up."""
    client = httpx.Client(base_url=url, timeout=60.0)
    model = client.get("/v1/models").raise_for_status().json()["data"][0]["id"]
    found = []
    for seed in range(conversations + 1):
        conversation = Conversation(client, model, words, f"long {seed}")
        heard = [conversation.turn() for _ in range(turns)]
        more = heard[-1].new_tokens - heard[0].new_tokens
        enough = words + round(more * words / heard[0].new_tokens)
        found.append(Talk(heard, Conversation(client, model, enough, f"fresh {seed}").turn()))
    return found[1:]


def compare(talks: list[Talk]) -> float:
    """Prints the table; returns the median ratio of the last turns' times to those of the fresh ones after
    them.
    """
    print("turn   prompt tokens  cached   new  ms to the first token")
    rows = {str(number): each for number, each in enumerate(zip(*(t.turns for t in talks), strict=True), 1)}
    rows["fresh"] = tuple(talk.fresh for talk in talks)
    for name, turns in rows.items():
        prompt, cached = turns[0].prompt_tokens, turns[0].cached_tokens
        median = 1e3 * statistics.median(turn.seconds for turn in turns)
        print(f"{name:5}  {prompt:13,}  {cached:6,}  {prompt - cached:4}  {median:8.1f}")
    return statistics.median(talk.turns[-1].seconds / talk.fresh.seconds for talk in talks)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.multi_turn", description=__doc__)
    parser.add_argument("--url", default=None, help="of a gateway; else one is started, with workers")
    parser.add_argument("--model", type=Path, default=MODEL, help="for workers started here")
    parser.add_argument("--conversations", type=int, default=8)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--words", type=int, default=10, help="of each question")
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the table")
    options = parser.parse_args(argv)
    load = (options.conversations, options.turns, options.words)
    if options.url is not None:
        talks = measure(options.url, *load)
    else:
        with tempfile.TemporaryDirectory() as logs, Fleet(options.model, Path(logs)) as fleet:
            cores = os.sched_getaffinity(0)
            prefill = fleet.worker("prefill", cores)
            url = fleet.gateway([fleet.worker("decode", cores)], [prefill])
            talks = measure(url, *load)
    ratio = compare(talks)
    print(f"the last turn takes {ratio:.2f} times as long as a fresh one (bound {BOUND})")
    found = {"ratio": ratio, "conversations": [asdict(talk) for talk in talks]}
    write_result(options.out, found)
    return int(ratio > BOUND)


if __name__ == "__main__":
    raise SystemExit(main())
