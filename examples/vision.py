"""Asks about a picture: vision.py [PICTURE [QUESTION [URL]]]."""

import base64
import mimetypes
import sys
from pathlib import Path

from openai import OpenAI

PICTURE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("receipt.png")
QUESTION = sys.argv[2] if len(sys.argv) > 2 else "What is in this image? Describe it in detail."
URL = sys.argv[3] if len(sys.argv) > 3 else "http://127.0.0.1:30000/v1"

encoded = base64.b64encode(PICTURE.read_bytes()).decode()
url = f"data:{mimetypes.guess_type(PICTURE)[0]};base64,{encoded}"
content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]

client = OpenAI(base_url=URL, api_key="none")
model = client.models.list().data[0].id
messages: list = [{"role": "user", "content": content}]
stream = client.chat.completions.create(model=model, messages=messages, temperature=0, stream=True)
for chunk in stream:
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
print()
