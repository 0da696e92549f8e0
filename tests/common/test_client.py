from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc_testing
import pytest

from perigee.v1 import chat_pb2, sampling_pb2
from services.common import errors
from services.common.client import (
    ChatOptions,
    Content,
    Finished,
    PerigeeClient,
    Reasoning,
    ToolCallPart,
    Used,
    user_message,
)
from services.common.rpc.status import to_status

SERVICE = chat_pb2.DESCRIPTOR.services_by_name["ChatService"]
STREAM = SERVICE.methods_by_name["Stream"]
COMPLETE = SERVICE.methods_by_name["Complete"]


@pytest.fixture
def channel():
    return grpc_testing.channel([SERVICE], grpc_testing.strict_real_time())


@pytest.fixture
def background():
    with ThreadPoolExecutor(1) as pool:
        yield pool


def delta(**fields):
    return chat_pb2.ChatChunk(deltas=[chat_pb2.ChatDelta(**fields)])


def test_an_answer_comes_as_typed_pieces_in_order(channel, background):
    pieces = background.submit(lambda: list(PerigeeClient(channel).chat([user_message("hi")])))
    _, _, rpc = channel.take_unary_stream(STREAM)
    rpc.send_initial_metadata(())
    rpc.send_response(delta(reasoning_content="hm"))
    rpc.send_response(delta(content="yes"))
    call = chat_pb2.ToolCallDelta(index=1, id="functions.f:0", name="f", arguments="{}")
    rpc.send_response(delta(tool_calls=[call]))
    rpc.send_response(delta(finish_reason=sampling_pb2.FINISH_REASON_LENGTH))
    usage = sampling_pb2.Usage(prompt_tokens=5, completion_tokens=4, cached_tokens=3, reasoning_tokens=2)
    rpc.send_response(chat_pb2.ChatChunk(usage=usage))
    rpc.terminate((), grpc.StatusCode.OK, "")
    assert pieces.result(5) == [
        Reasoning("hm"),
        Content("yes"),
        ToolCallPart(1, "functions.f:0", "f", "{}"),
        Finished("length"),
        Used(5, 4, 3, 2),
    ]


def test_options_become_fields_and_absent_ones_stay_absent(channel, background):
    options = ChatOptions(model="m", thinking=False, max_tokens=0, temperature=0.0, seed=7)
    background.submit(lambda: list(PerigeeClient(channel).chat([user_message("hi", [b"png"])], options)))
    _, request, rpc = channel.take_unary_stream(STREAM)
    rpc.terminate((), grpc.StatusCode.OK, "")
    assert request.model == "m"
    assert request.HasField("thinking")
    assert not request.thinking
    sampling = request.sampling
    for name in ("max_tokens", "temperature", "seed"):
        assert sampling.HasField(name)
    assert sampling.seed == 7
    assert not sampling.HasField("top_p")
    (message,) = request.messages
    assert message.role == "user"
    assert [part.WhichOneof("part") for part in message.content] == ["image", "text"]


def test_what_was_not_chosen_is_left_to_the_server(channel, background):
    background.submit(lambda: list(PerigeeClient(channel).chat([user_message("hi")])))
    _, request, rpc = channel.take_unary_stream(STREAM)
    rpc.terminate((), grpc.StatusCode.OK, "")
    assert not request.HasField("thinking")
    assert not request.sampling.HasField("temperature")


def test_a_whole_answer_comes_at_once(channel, background):
    answer = background.submit(lambda: PerigeeClient(channel).complete([user_message("hi")]))
    _, _, rpc = channel.take_unary_unary(COMPLETE)
    rpc.send_initial_metadata(())
    rpc.terminate(chat_pb2.ChatResponse(id="chatcmpl-1"), (), grpc.StatusCode.OK, "")
    assert answer.result(5).id == "chatcmpl-1"


@pytest.mark.parametrize("method", ["chat", "complete"])
def test_a_failure_is_an_error_of_the_tree(channel, background, method):
    client = PerigeeClient(channel)
    calls = {
        "chat": lambda: list(client.chat([user_message("hi")])),
        "complete": lambda: client.complete([user_message("hi")]),
    }
    answer = background.submit(calls[method])
    status = to_status(errors.ModelNotFound("no model m", "model"))
    if method == "chat":
        _, _, stream = channel.take_unary_stream(STREAM)
        stream.terminate(status.trailing_metadata, status.code, status.details)
    else:
        _, _, unary = channel.take_unary_unary(COMPLETE)
        unary.terminate(None, status.trailing_metadata, status.code, status.details)
    with pytest.raises(errors.ModelNotFound, match="no model m") as caught:
        answer.result(5)
    assert caught.value.param == "model"


def test_leaving_in_the_middle_cancels_the_call(channel, background):
    pieces = PerigeeClient(channel).chat([user_message("hi")])
    first = background.submit(next, pieces)
    _, _, rpc = channel.take_unary_stream(STREAM)
    rpc.send_response(delta(content="a"))
    assert first.result(5) == Content("a")
    pieces.close()
    rpc.cancelled()
