"""What is sent to a gateway over gRPC, and read from its answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from perigee.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    sampling_pb2,
)
from services.cli.bench.targets.grpc import GrpcTarget
from services.cli.bench.targets.target import AskOptions, parse_address
from services.cli.bench.workload.ask import Ask
from services.common.errors import Overloaded, Unavailable
from services.common.rpc.status import to_status

USAGE = sampling_pb2.Usage(prompt_tokens=4, completion_tokens=2, cached_tokens=1)
LENGTH = sampling_pb2.FINISH_REASON_LENGTH


class Gateway(
    chat_pb2_grpc.ChatServiceServicer,
    generation_pb2_grpc.GenerationServiceServicer,
    models_pb2_grpc.ModelServiceServicer,
):
    """`usage`: whether streams end with it; `refuses`: whether they fail."""

    def __init__(self):
        self.requests = []
        self.keys = []
        self.usage, self.refuses = True, False

    def GetModel(self, request, context):
        return models_pb2.Model(name="kimi")

    def StreamGenerate(self, request, context):
        self.requests.append(request)
        self.keys.append(dict(context.invocation_metadata()).get("authorization"))
        if self.refuses:
            context.abort_with_status(to_status(Overloaded("full")))
        for text, finish in (("a", 0), ("b", LENGTH)):
            choice = generation_pb2.GenerateChoice(text=text, finish_reason=finish)
            yield generation_pb2.GenerateChunk(deltas=[choice])
        if self.usage:
            yield generation_pb2.GenerateChunk(usage=USAGE)

    def Stream(self, request, context):
        self.requests.append(request)
        call = chat_pb2.ToolCallDelta(index=0, id="c", name="f")
        more = chat_pb2.ToolCallDelta(index=0, arguments="{}")
        for fields in (
            {"reasoning_content": "so"},
            {"content": "hm"},
            {"tool_calls": [call]},
            {"tool_calls": [more]},
        ):
            yield chat_pb2.ChatChunk(deltas=[chat_pb2.ChatDelta(**fields)])
        end = chat_pb2.ChatDelta(finish_reason=sampling_pb2.FINISH_REASON_TOOL_CALLS)
        yield chat_pb2.ChatChunk(deltas=[end])
        yield chat_pb2.ChatChunk(usage=USAGE)


@pytest.fixture
def gateway():
    servicer = Gateway()
    server = grpc.server(ThreadPoolExecutor(2))
    chat_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server)
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(servicer, server)
    models_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)
    servicer.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(None)


async def asked(gateway, ask, **options):
    target = GrpcTarget(parse_address(gateway.url), AskOptions(**options))
    try:
        return await target.ask(ask)
    finally:
        await target.close()


async def test_token_ids_are_continued_to_the_full_length(gateway):
    timeline = await asked(gateway, Ask(2, 4, token_ids=[1, 2, 3, 4]), key="secret", model="kimi")
    (request,) = gateway.requests
    sampling = request.sampling
    assert (request.model, list(request.token_ids.ids)) == ("kimi", [1, 2, 3, 4])
    assert (sampling.max_tokens, sampling.temperature, sampling.ignore_eos) == (2, 0.0, True)
    assert sampling.keep_special_tokens
    assert gateway.keys == ["Bearer secret"]
    assert (timeline.error, len(timeline.texts), timeline.answer.finish) == ("", 2, "length")
    assert (timeline.prompt_tokens, timeline.output_tokens, timeline.cached_tokens) == (4, 2, 1)


async def test_a_chat_s_reasoning_and_calls_are_text_too(gateway):
    tools = [{"type": "function", "function": {"name": "f"}}]
    timeline = await asked(gateway, Ask(2, 4, messages=[{"role": "user", "content": "hi"}], tools=tools))
    assert gateway.requests[0].tools[0].name == "f"
    assert (timeline.error, len(timeline.texts)) == ("", 4)
    answer = timeline.answer
    assert (answer.reasoning, answer.content, answer.finish) == ("so", "hm", "tool_calls")
    assert answer.calls == [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


async def test_a_refused_request_has_failed(gateway):
    gateway.refuses = True
    timeline = await asked(gateway, Ask(2, 1, token_ids=[1]))
    assert "full" in timeline.error
    assert timeline.end >= timeline.start


async def test_a_stream_without_its_last_message_has_failed(gateway):
    gateway.usage = False
    timeline = await asked(gateway, Ask(2, 1, token_ids=[1]))
    assert "in the middle" in timeline.error


async def test_a_field_that_no_request_has_is_an_error(gateway):
    timeline = await asked(gateway, Ask(2, 1, token_ids=[1]), extra={"top_kk": 1})
    assert "did you mean top_k" in timeline.error


async def test_the_model_s_name_is_the_primary_one(gateway):
    target = GrpcTarget(parse_address(gateway.url), AskOptions())
    assert await target.model() == "kimi"
    await target.close()


async def test_nobody_at_the_address_is_unavailable():
    target = GrpcTarget(parse_address("grpc://127.0.0.1:1"), AskOptions(timeout_s=5))
    with pytest.raises(Unavailable):
        await target.model()
    await target.close()
