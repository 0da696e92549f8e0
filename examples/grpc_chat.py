"""Asks a running Perigee a question over gRPC: grpc_chat.py [QUESTION [HOST:PORT]]."""

import sys

import grpc

from perigee.v1 import chat_pb2, chat_pb2_grpc, sampling_pb2

question = sys.argv[1] if len(sys.argv) > 1 else "Hello"
address = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:50050"
message = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text=question)])
sampling = sampling_pb2.SamplingParams(max_tokens=64, temperature=0)

with grpc.insecure_channel(address) as channel:
    request = chat_pb2.ChatRequest(messages=[message], sampling=sampling)
    for chunk in chat_pb2_grpc.ChatServiceStub(channel).Stream(request):
        for delta in chunk.deltas:
            print(delta.reasoning_content + delta.content, end="", flush=True)
print()
