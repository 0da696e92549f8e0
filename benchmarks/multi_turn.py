"""What a conversation costs as it grows: time to the first token, turn by turn, against a running suite.

python -m benchmarks.multi_turn [--url URL] [--conversations 8] [--turns 10] [--words 60]

Each turn's question has the same number of words, so that about as many tokens are new to the suite. The
conversations run one after another; a line of the table is the median over them. Exits with 1 if the last
turn takes more than 1.5 times as long as the first one.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from dataclasses import dataclass

import openai

BOUND = 1.5
WORDS = ("river", "stone", "light", "garden", "window", "paper", "morning", "silver", "bridge", "winter")


@dataclass(frozen=True)
class Turn:
    """`seconds` to the first token of the answer; of `prompt_tokens`, `cached_tokens` were not computed."""

    seconds: float
    prompt_tokens: int
    cached_tokens: int


class Conversation:
    """Questions of random words, each behind all earlier questions and their answers."""

    def __init__(self, client: openai.OpenAI, model: str, words: int, seed: int) -> None:
        self._client, self._model, self._words = client, model, words
        self._dice = random.Random(seed)
        self._messages: list[dict[str, str]] = []

    def turn(self) -> Turn:
        """Asks the next question and hears the whole answer."""
        question = " ".join(self._dice.choices(WORDS, k=self._words))
        self._messages.append({"role": "user", "content": question})
        began = time.perf_counter()
        first, answer, usage = 0.0, "", None
        chunks = self._client.chat.completions.create(
            model=self._model,
            messages=self._messages,  # type: ignore[arg-type]
            max_tokens=24,
            temperature=0.0,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"thinking": {"type": "disabled"}, "ignore_eos": True},
        )
        for chunk in chunks:
            usage = chunk.usage or usage
            said = "".join(choice.delta.content or "" for choice in chunk.choices)
            if said and not answer:
                first = time.perf_counter() - began
            answer += said
        self._messages.append({"role": "assistant", "content": answer})
        assert usage is not None
        details = usage.prompt_tokens_details
        return Turn(first, usage.prompt_tokens, (details and details.cached_tokens) or 0)


def measure(url: str, conversations: int, turns: int, words: int) -> list[list[Turn]]:
    """All turns of all conversations; one more, of other words, warms the suite up."""
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
    model = client.models.list().data[0].id
    found = []
    for seed in range(conversations + 1):
        conversation = Conversation(client, model, words, seed)
        found.append([conversation.turn() for _ in range(turns)])
    return found[1:]


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.multi_turn", description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:30000", help="of the gateway")
    parser.add_argument("--conversations", type=int, default=8)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--words", type=int, default=60, help="of each question")
    arguments = parser.parse_args()
    found = measure(arguments.url, arguments.conversations, arguments.turns, arguments.words)
    print("turn  prompt tokens  cached  new  ms to the first token")
    medians = []
    for number, turns in enumerate(zip(*found, strict=True), start=1):
        prompt, cached = turns[0].prompt_tokens, turns[0].cached_tokens
        medians.append(1e3 * statistics.median(turn.seconds for turn in turns))
        print(f"{number:4}  {prompt:13,}  {cached:6,}  {prompt - cached:3}  {medians[-1]:8.1f}")
    ratio = medians[-1] / medians[0]
    print(f"the last turn takes {ratio:.2f} times as long as the first one")
    return int(ratio > BOUND)


if __name__ == "__main__":
    raise SystemExit(main())
