"""An agent with one tool: agent.py [QUESTION [URL]]. It runs what the model calls until the model answers."""

import json
import sys

from openai import OpenAI

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "What's the weather in Beijing?"
URL = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:30000/v1"
MOST_ROUNDS = 8
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the current weather for a city.",
            "parameters": {
                "type": "object",
                "properties": {"location": {"type": "string", "description": "The city"}},
                "required": ["location"],
            },
        },
    }
]


def get_weather(location: str) -> str:
    """Returns the same weather for every city; a real agent would ask a service."""
    return json.dumps({"temperature": 22, "condition": "sunny"})


client = OpenAI(base_url=URL, api_key="none")
model = client.models.list().data[0].id
messages: list = [{"role": "user", "content": QUESTION}]
for _ in range(MOST_ROUNDS):
    answer = client.chat.completions.create(model=model, messages=messages, tools=TOOLS, temperature=0)
    message = answer.choices[0].message
    if not message.tool_calls:
        print(message.content)
        break
    # The message goes back whole: while tools run, the model reads its own reasoning again.
    messages.append(message)
    for call in message.tool_calls:
        result = get_weather(**json.loads(call.function.arguments))
        print(f"{call.function.name}({call.function.arguments}) = {result}")
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
else:
    sys.exit(f"no answer after {MOST_ROUNDS} rounds of calls")
