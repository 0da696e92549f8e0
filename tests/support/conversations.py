"""Load of many conversations of several turns, in tokens, and how much of their prompts was cached."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

from perigee.v1 import generation_pb2, generation_pb2_grpc, sampling_pb2
from tests.support.prompts import random_prompt

PAGE_TOKENS = 64


@dataclass(frozen=True)
class Turn:
    """One turn's prompt and output. `cached`: prompt tokens that were not computed again."""

    prompt: list[int]
    output: list[int]
    cached: int

    @property
    def most_cached(self) -> int:
        """What the next turn can find: whole pages of all tokens except the last, which has no KV."""
        return (len(self.prompt) + len(self.output) - 1) // PAGE_TOKENS * PAGE_TOKENS


class Conversation:
    """Each turn's prompt is the previous prompt, its output and new tokens, as in a round of tool calls."""

    def __init__(self, stub: generation_pb2_grpc.GenerationServiceStub, seed: object, salt: str = "") -> None:
        self._stub = stub
        self._seed = seed
        self._salt = salt
        self.turns: list[Turn] = []

    def take_turn(self, new_tokens: int, max_tokens: int) -> Turn:
        """Takes one more turn."""
        before = [*self.turns[-1].prompt, *self.turns[-1].output] if self.turns else []
        prompt = before + random_prompt(new_tokens, (self._seed, len(self.turns)))
        request = generation_pb2.GenerateRequest(
            token_ids=generation_pb2.TokenIds(ids=prompt),
            sampling=sampling_pb2.SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True),
            cache_salt=self._salt,
        )
        answer = self._stub.Generate(request, timeout=240)
        turn = Turn(prompt, list(answer.choices[0].token_ids), answer.usage.cached_tokens)
        self.turns.append(turn)
        return turn


def hold_conversations(
    channel: grpc.Channel, count: int, turns: int, salt: str, at_once: int = 8
) -> list[Conversation]:
    """Runs conversations of different lengths, `at_once` at a time."""
    stub = generation_pb2_grpc.GenerationServiceStub(channel)
    conversations = [Conversation(stub, index, salt) for index in range(count)]

    def hold(index: int) -> None:
        for turn in range(turns):
            conversations[index].take_turn(150 + 40 * (index % 5) if turn == 0 else 70 + 10 * (index % 4), 40)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(hold, range(count)))
    return conversations


def cached_tokens(conversations: Sequence[Conversation]) -> int:
    """Cached tokens over all turns."""
    return sum(turn.cached for conversation in conversations for turn in conversation.turns)
