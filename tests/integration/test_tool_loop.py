"""An agent's loop over tools through the real suite, with the official client.

The embedded weights are random, so the tests force what the model would decide: to call or to answer.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import jsonschema
import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.support.conversations import PAGE_TOKENS

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather now.",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "maxLength": 20},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["location"],
            "additionalProperties": False,
        },
    },
}
SECTION = "<|tool_calls_section_begin|>"
SHORT = "It is (warm|cold)[.]"
# No token holds two bytes of these characters, so the text has one tokenization, however it was sampled.
ONE_WAY = "[♔♚]{45,50}"


def get_weather(location: str, unit: str = "celsius") -> str:
    return f"22 degrees {unit} and sunny in {location}. " * 8


class Agent:
    """Asks, runs the tools that are called, and asks again until there is an answer that matches `answer`."""

    def __init__(
        self, client: openai.OpenAI, *, thinking: bool, stream: bool = False, answer: str = SHORT
    ) -> None:
        self._client = client
        self._thinking = {"chat_template_kwargs": {"thinking": thinking}}
        self._stream = stream
        spelled = client.post("/tokenize", cast_to=object, body={"prompt": SECTION, "parse_special": True})
        [section] = spelled["tokens"]
        # The bias leaves tool_choice at auto, but leaves no time to think.
        wanted = {"tool_choice": "required"} if thinking else {"logit_bias": {str(section): 100}}
        self._call = {
            "parallel_tool_calls": False,
            "max_tokens": 160,
            "extra_body": self._thinking,
            **wanted,
        }
        self._answer = {
            "logit_bias": {str(section): -100},
            "max_tokens": 60 if answer == SHORT else 200,
            "extra_body": {"regex": answer, **self._thinking},
        }
        self.messages: list[Any] = []
        self.completions: list[ChatCompletion] = []

    def run(self, question: str, num_calls: int) -> None:
        """Takes `num_calls` turns with a call each and one with the answer."""
        self.messages.append({"role": "user", "content": question})
        for turn in range(num_calls + 1):
            completion = self._ask(self._call if turn < num_calls else self._answer)
            self.completions.append(completion)
            message = completion.choices[0].message
            self.messages.append(message)
            for call in message.tool_calls or ():
                result = get_weather(**json.loads(call.function.arguments))
                self.messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        assert not message.tool_calls

    def _ask(self, forced: dict[str, Any]) -> ChatCompletion:
        asked = {"model": "kimi-nano", "messages": self.messages, "tools": [WEATHER], "seed": 11, **forced}
        if not self._stream:
            return self._client.chat.completions.create(**asked)
        with self._client.chat.completions.stream(stream_options={"include_usage": True}, **asked) as stream:
            return stream.get_final_completion()


def heard(completion: ChatCompletion) -> tuple[Any, ...]:
    """Finish reason, reasoning, content and calls."""
    [choice] = completion.choices
    message = choice.message
    calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    return choice.finish_reason, getattr(message, "reasoning_content", None), message.content or "", calls


@pytest.mark.parametrize("thinking", [True, False])
def test_an_agents_loop_goes_the_same_way_streamed_and_not(client, thinking):
    agent, streaming = (Agent(client, thinking=thinking, stream=stream) for stream in (False, True))
    agent.run("What's the weather in Beijing?", num_calls=2)
    *turns, (finish, _, content, calls) = map(heard, agent.completions)
    for index, (call_finish, reasoning, _, [(call_id, name, arguments)]) in enumerate(turns):
        assert (call_finish, call_id, name) == ("tool_calls", f"functions.get_weather:{index}", "get_weather")
        jsonschema.validate(json.loads(arguments), WEATHER["function"]["parameters"])
        assert bool(reasoning) == thinking
    assert (finish, calls) == ("stop", [])
    assert re.fullmatch(SHORT, content)
    streaming.run("What's the weather in Beijing?", num_calls=2)
    assert list(map(heard, streaming.completions)) == list(map(heard, agent.completions))


def test_each_turn_of_a_tool_conversation_finds_what_came_before_in_the_cache(client):
    """Finds at least whole pages: after a call the prompt before it, after an answer also that answer.

    An output is found again as far as its text is tokenized into the sampled tokens. That holds for the
    answers here, but not for the calls of random weights. test_next_turn.py covers outputs given as tokens.
    """
    agent = Agent(client, thinking=False, answer=ONE_WAY)
    for city in ("Oslo", "Rome", "Lima"):
        agent.run(f"What's the weather in {city}?", num_calls=1)
    for before, after in pairwise(agent.completions):
        known = before.usage.prompt_tokens
        cached = after.usage.prompt_tokens_details.cached_tokens
        if before.choices[0].message.tool_calls:
            assert cached >= known // PAGE_TOKENS * PAGE_TOKENS
        else:
            assert before.usage.completion_tokens > 2 * PAGE_TOKENS
            known += before.usage.completion_tokens - 1
            assert known // PAGE_TOKENS * PAGE_TOKENS <= cached <= known
