"""An answer as JSON that fits a schema: structured.py [QUESTION [URL]]."""

import json
import sys

from openai import OpenAI

QUESTION = sys.argv[1] if len(sys.argv) > 1 else "Give me JSON with server Alice and port 17."
URL = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:30000/v1"
# Enforced while tokens are sampled: the text cannot be anything else, unless max_tokens cuts it.
SCHEMA = {
    "type": "object",
    "properties": {"server": {"type": "string"}, "port": {"type": "integer"}},
    "required": ["server", "port"],
    "additionalProperties": False,
}

client = OpenAI(base_url=URL, api_key="none")
answer = client.chat.completions.create(
    model=client.models.list().data[0].id,
    messages=[{"role": "user", "content": QUESTION}],
    response_format={"type": "json_schema", "json_schema": {"name": "service", "schema": SCHEMA}},
    temperature=0,
    max_tokens=200,
)
print(json.loads(answer.choices[0].message.content))
