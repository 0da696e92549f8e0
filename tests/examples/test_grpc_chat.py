from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from perigee.v1 import chat_pb2, chat_pb2_grpc


class Chat(chat_pb2_grpc.ChatServiceServicer):
    def Stream(self, request, context):
        text = request.messages[0].content[0].text
        yield chat_pb2.ChatChunk(deltas=[chat_pb2.ChatDelta(reasoning_content="hm ")])
        yield chat_pb2.ChatChunk(deltas=[chat_pb2.ChatDelta(content=text.upper())])


def test_the_example_prints_the_answer_as_it_comes(repository):
    server = grpc.server(ThreadPoolExecutor(1))
    chat_pb2_grpc.add_ChatServiceServicer_to_server(Chat(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    command = [sys.executable, str(repository / "examples" / "grpc_chat.py"), "hello", f"127.0.0.1:{port}"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    server.stop(None)
    assert (answer.returncode, answer.stdout) == (0, "hm HELLO\n"), answer.stderr
