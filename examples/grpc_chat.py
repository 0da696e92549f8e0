"""Asks a running Perigee a question over gRPC: grpc_chat.py [QUESTION [HOST:PORT]]."""

import sys

from perigee.client import Client

question = sys.argv[1] if len(sys.argv) > 1 else "Hello"
address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:50050"

with Client(address) as client, client.chat.stream(question, max_tokens=64, temperature=0) as answer:
    for chunk in answer:
        for delta in chunk.deltas:
            print(delta.reasoning_content + delta.content, end="", flush=True)
print()
