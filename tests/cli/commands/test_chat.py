from __future__ import annotations

import io
import json
import os
import pty
import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc, sampling_pb2
from services.cli.main import main
from services.common.errors import ModelNotFound
from services.common.rpc.status import to_status


class Chat(chat_pb2_grpc.ChatServiceServicer):
    """Thinks, then repeats the question."""

    def __init__(self):
        self.requests = []

    def Stream(self, request, context):
        self.requests.append(request)
        if request.model == "unknown":
            context.abort_with_status(to_status(ModelNotFound("no model is called unknown", "model")))
        yield chat_pb2.ChatChunk(deltas=[chat_pb2.ChatDelta(reasoning_content="hm")])
        text = request.messages[-1].content[-1].text
        yield chat_pb2.ChatChunk(deltas=[chat_pb2.ChatDelta(content=text.upper())])
        finish = sampling_pb2.FINISH_REASON_STOP
        usage = sampling_pb2.Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=1, reasoning_tokens=1)
        yield chat_pb2.ChatChunk(deltas=[chat_pb2.ChatDelta(finish_reason=finish)], usage=usage)


@pytest.fixture
def gateway():
    servicer = Chat()
    server = grpc.server(ThreadPoolExecutor(2))
    chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None)


def test_the_answer_streams_with_the_reasoning_apart(gateway, capsys):
    _, address = gateway
    assert main(["chat", "hello", "--address", address]) == 0
    assert capsys.readouterr().out == "> hm\n\nHELLO\n"


def test_pictures_and_options_reach_the_gateway(gateway, tmp_path):
    servicer, address = gateway
    image = tmp_path / "f.png"
    image.write_bytes(b"png")
    options = ["--no-thinking", "--max-tokens", "5", "--temperature", "0", "--seed", "3", "--model", "m"]
    assert main(["chat", "hello", "--address", address, "--image", str(image), *options]) == 0
    (request,) = servicer.requests
    assert request.messages[0].content[0].image.data == b"png"
    assert request.HasField("thinking")
    assert not request.thinking
    assert (request.model, request.sampling.max_tokens, request.sampling.seed) == ("m", 5, 3)
    assert request.sampling.temperature == 0


def test_what_is_no_utf8_on_the_command_line_is_replaced(gateway, capsys):
    _, address = gateway
    assert main(["chat", "a\udcff", "--address", address]) == 0
    assert capsys.readouterr().out.endswith("A\ufffd\n")


def test_a_reader_that_leaves_ends_the_command_in_silence(gateway):
    _, address = gateway
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "services.cli.main", "chat", "hello", "--address", address]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_without_options_the_model_decides_whether_to_think(gateway):
    servicer, address = gateway
    main(["chat", "hello", "--address", address])
    assert not servicer.requests[0].HasField("thinking")


def test_an_error_of_the_gateway_is_one_line(gateway, capsys):
    _, address = gateway
    assert main(["chat", "hello", "--address", address, "--model", "unknown"]) == 1
    assert capsys.readouterr().err == "perigee chat: no model is called unknown\n"


def test_nobody_listening_is_said_at_once_with_what_to_do(capsys):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert main(["chat", "hello", "--address", address]) == 1
    assert f"nothing answers at {address}" in (text := capsys.readouterr().err)
    assert "make run" in text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--address", "nowhere"], "--address"),
        (["--address", "a:99999"], "--address"),
        (["--image", "/absent.png"], "/absent.png"),
        (["--image", "/dev/zero"], "--image /dev/zero: has more than the 67,108,864 bytes"),
        (["--max-tokens", "-1"], "--max-tokens"),
        (["--max-tokens", str(1 << 32)], "--max-tokens"),
        (["--seed", str(1 << 64)], "--seed"),
    ],
)
def test_wrong_arguments_are_named(arguments, named, capsys):
    assert main(["chat", "hello", *arguments]) == 2
    assert named in capsys.readouterr().err


def test_without_a_text_the_question_comes_from_standard_input(gateway, monkeypatch, capsys):
    _, address = gateway
    for words in (["chat"], ["chat", "-"]):
        monkeypatch.setattr("sys.stdin", io.StringIO("from a\npipe\n"))
        assert main([*words, "--address", address]) == 0
        assert capsys.readouterr().out == "> hm\n\nFROM A\nPIPE\n"


def test_standard_input_is_left_alone_if_there_is_a_text(gateway, monkeypatch):
    stdin = io.StringIO("something else")
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["chat", "hello", "--address", gateway[1]]) == 0
    assert stdin.read() == "something else"


@pytest.mark.parametrize(
    ("text", "named"), [("  \n", "there is no message"), ("x" * ((16 << 20) + 1), "16,777,216 characters")]
)
def test_an_empty_or_endless_standard_input_is_no_question(text, named, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["chat"]) == 2
    assert named in capsys.readouterr().err


def test_json_is_one_line_with_everything(gateway, capsys):
    assert main(["chat", "hello", "--json", "--timing", "--address", gateway[1]]) == 0
    out, err = capsys.readouterr()
    assert (out.count("\n"), err) == (1, "")
    answer = json.loads(out)
    timing = answer.pop("timing")
    assert answer == {
        "content": "HELLO",
        "reasoning_content": "hm",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 5, "cached_tokens": 1, "completion_tokens": 3, "reasoning_tokens": 1},
    }
    assert 0 <= timing["first_token_seconds"] <= timing["seconds"]


def test_timing_is_a_note_beside_the_answer(gateway, capsys):
    assert main(["chat", "hello", "--timing", "--address", gateway[1]]) == 0
    note = r"\[first token after \d\.\d\d s; \d\.\d\d s in all, [\d.]+ tokens/s\]\n$"
    assert re.search(note, capsys.readouterr().err)


def test_a_terminal_gets_a_conversation(gateway):
    servicer, address = gateway
    master, slave = pty.openpty()
    words = ["chat", "--system", "be brief", "--address", address]
    command = [sys.executable, "-m", "services.cli.main", *words]
    with subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        os.close(slave)
        os.write(master, b"one\ntwo\n/quit\n")
        out, _ = process.communicate(timeout=60)
        os.close(master)
    assert (process.returncode, out) == (0, b"> hm\n\nONE\n> hm\n\nTWO\n")
    said = [
        [(each.role, each.content[-1].text) for each in request.messages] for request in servicer.requests
    ]
    assert said == [
        [("system", "be brief"), ("user", "one")],
        [("system", "be brief"), ("user", "one"), ("assistant", "ONE"), ("user", "two")],
    ]
