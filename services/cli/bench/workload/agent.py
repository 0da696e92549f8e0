"""Agents that use tools: conversations whose every round brings a result and asks again."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from services.cli.bench.workload.ask import Answer, Ask, Message, Turns
from services.cli.bench.workload.prompts import TextMaker
from services.cli.bench.workload.scenario import Scenario, scaled_length

# Fractions of the median prompt: all conversations share the first, a task adds the second, and each result
# the third on average.
# With 16 rounds and answers of 1/160 the median prompt is the 1 that it should be, and 90 % of all prompt
# tokens were in the prompt or the answer before, or in the shared part.
_SHARED, _TASK, _RESULT = 0.125, 0.0564, 0.1029


def _function(name: str, description: str, argument: str) -> dict[str, Any]:
    properties = {argument: {"type": "string"}}
    parameters = {"type": "object", "properties": properties, "required": [argument]}
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


TOOLS = (
    _function("read_file", "Returns the text of a file", "path"),
    _function("run_command", "Runs a shell command and returns its output", "command"),
    _function("search", "Returns the lines of all files that match a pattern", "pattern"),
)
_TOOLS_TOKENS = 200  # about


@dataclass(frozen=True)
class AgentPlan:
    """Lengths of one conversation, in tokens: the part that all share, the task, each answer, each result."""

    shared: int
    task: int
    answer: int
    results: tuple[int, ...]

    def prompts(self) -> list[int]:
        """Returns the length of each round's prompt."""
        lengths = [self.shared + self.task]
        for result in self.results:
            lengths.append(lengths[-1] + self.answer + result)
        return lengths

    def new_tokens(self) -> int:
        """Returns how many tokens of all prompts no earlier prompt or answer, and no other agent, had."""
        return self.task + sum(self.results)


def plan_of(scenario: Scenario, number: int, seed: int) -> AgentPlan:
    """Returns the lengths of conversation `number` of a scaled scenario. Results vary by a factor of three;
    all of a conversation are as long together as that many average ones.
    """
    median = scenario.input_tokens
    dice = random.Random(f"{seed} agent {number}")
    shares = [dice.uniform(0.5, 1.5) for _ in range(scenario.rounds - 1)]
    mean = sum(shares) / max(len(shares), 1)
    results = tuple(scaled_length(median, _RESULT * share / mean) for share in shares)
    return AgentPlan(
        scaled_length(median, _SHARED), scaled_length(median, _TASK), scenario.output_tokens, results
    )


class AgentSession:
    """One conversation. Its prompts hold what the model has really answered, so that an endpoint can find all
    of the last prompt and answer in its cache. Where the model calls no tool, a call of one is added.
    """

    def __init__(self, plan: AgentPlan, texts: TextMaker, number: int, salt: str) -> None:
        self._plan = plan
        self._texts = texts
        self._seed = f"{salt} {number}"
        self._dice = random.Random(f"{self._seed} calls")
        self._shared = f"{salt} shared"
        self._calls = 0

    def turns(self) -> Turns:
        """Yields a request per round."""
        plan, texts = self._plan, self._texts
        system = texts.text(max(1, plan.shared - _TOOLS_TOKENS), self._shared)
        messages: list[Message] = [
            {"role": "system", "content": system},
            {"role": "user", "content": texts.text(plan.task, f"{self._seed} task")},
        ]
        for round_, length in enumerate(plan.prompts()):
            answer = yield Ask(plan.answer, length, messages=tuple(messages), tools=TOOLS)
            if round_ < len(plan.results):
                messages += self._round(answer, plan.results[round_], round_)

    def _round(self, answer: Answer, tokens: int, round_: int) -> list[Message]:
        """Returns the answer as a turn, and the results of its calls, which have so many tokens together."""
        calls = answer.calls if answer.finish == "tool_calls" and answer.calls else [self._own_call()]
        self._calls += len(calls)
        turn: Message = {"role": "assistant", "content": answer.content, "tool_calls": calls}
        if answer.reasoning:
            turn["reasoning_content"] = answer.reasoning
        share = max(1, tokens // len(calls))
        results = [
            {
                "role": "tool",
                "tool_call_id": call["id"],
                "content": self._texts.text(share, f"{self._seed} {round_} {index}"),
            }
            for index, call in enumerate(calls)
        ]
        return [turn, *results]

    def _own_call(self) -> dict[str, Any]:
        function = self._dice.choice(TOOLS)["function"]
        (argument,) = function["parameters"]["properties"]
        arguments = json.dumps({argument: f"src/part{self._dice.randrange(100)}.py"})
        name = function["name"]
        return {
            "id": f"functions.{name}:{self._calls}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }


def agent_sessions(scenario: Scenario, seed: int, salt: str, texts: TextMaker) -> list[AgentSession]:
    """Returns the conversations of a scaled scenario; `seed` and `salt` are those of `random_sessions`."""
    return [
        AgentSession(plan_of(scenario, number, seed), texts, number, salt)
        for number in range(scenario.requests)
    ]
