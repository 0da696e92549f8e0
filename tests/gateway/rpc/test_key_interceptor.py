"""gRPC with a file of API keys, at the port for clients and at the operators'."""

import grpc
import pytest
import structlog
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from perigee.v1 import admin_pb2, admin_pb2_grpc, chat_pb2, chat_pb2_grpc, models_pb2, models_pb2_grpc
from tests.gateway.access.keys import add_key, seconds_ago
from tests.gateway.rpc.test_public_port import REQUESTS, listed_services
from tests.gateway.suite import open_suite, wait_until

CHAT = chat_pb2.ChatRequest(
    messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])]
)


class Door:
    """A suite that asks for keys, and the keys it knows."""

    def __init__(self, suite, keys):
        self.suite = suite
        self.chat, self.admin, self.expired = keys
        self.chats = chat_pb2_grpc.ChatServiceStub(suite.channel)
        self.operators = admin_pb2_grpc.AdminServiceStub(suite.operator)


@pytest.fixture
async def door(tmp_path):
    path = tmp_path / "keys.json"
    keys = (
        add_key(path, "team"),
        add_key(path, "ops", scopes=["admin"]),
        add_key(path, "old", expires=seconds_ago(1)),
    )
    async with open_suite(api_keys=str(path)) as suite:
        yield Door(suite, keys)


def bearer(key):
    return (("authorization", f"Bearer {key}"),)


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def reason_of(error):
    [packed] = [value for key, value in error.trailing_metadata() if key == "grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(packed).details[0].Unpack(info)
    return info.reason


@pytest.mark.parametrize("send", [bearer, lambda key: (("x-api-key", key),)])
async def test_a_key_lets_calls_in_by_either_metadata(door, send):
    answer = await door.chats.Complete(CHAT, metadata=send(door.chat))
    assert answer.choices[0].content == "Hello!"
    chunks = [chunk async for chunk in door.chats.Stream(CHAT, metadata=send(door.chat))]
    assert chunks[-1].usage.completion_tokens > 0


async def test_without_a_valid_key_a_call_is_unauthenticated_with_one_text_and_nothing_is_computed(door):
    errors = [
        await failure(door.chats.Complete(CHAT, metadata=metadata))
        for metadata in ((), bearer("perigee_0"), bearer(door.expired), (("x-api-key", ""),))
    ]
    assert {error.code() for error in errors} == {grpc.StatusCode.UNAUTHENTICATED}
    assert len({error.details() for error in errors}) == 1
    assert {reason_of(error) for error in errors} == {"INVALID_API_KEY"}
    assert not door.suite.decode.submits


async def test_a_stream_is_refused_like_a_single_answer_and_names_its_request(door):
    call = door.chats.Stream(CHAT, metadata=(("x-request-id", "mine-1"),))
    error = await failure(call.read())
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED
    assert ("x-request-id", "mine-1") in list(error.trailing_metadata())


async def test_a_call_is_refused_before_its_message_has_arrived(door):
    call = door.suite.channel.stream_unary("/perigee.v1.ChatService/Complete")()
    assert (await failure(call)).code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("method", REQUESTS)
async def test_an_operators_command_takes_an_admin_key_only(door, method):
    command = getattr(door.operators, method)
    refused = await failure(command(REQUESTS[method]))
    assert refused.code() == grpc.StatusCode.UNAUTHENTICATED
    refused = await failure(command(REQUESTS[method], metadata=bearer(door.chat)))
    assert (refused.code(), reason_of(refused)) == (
        grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED",
    )  # fmt: skip
    assert [server.worker.flushed for server in door.suite.workers.values()] == [0, 0, 0]


async def test_an_admin_key_works_at_the_operator_port_and_does_not_chat(door):
    listed = await door.operators.ListWorkers(admin_pb2.ListWorkersRequest(), metadata=bearer(door.admin))
    assert len(listed.workers) == 3
    refused = await failure(door.chats.Complete(CHAT, metadata=bearer(door.admin)))
    assert refused.code() == grpc.StatusCode.PERMISSION_DENIED
    models = models_pb2_grpc.ModelServiceStub(door.suite.channel)
    refused = await failure(models.ListModels(models_pb2.ListModelsRequest(), metadata=bearer(door.admin)))
    assert refused.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_health_is_open_on_both_ports_and_reflection_at_the_clients_alone(door):
    for channel in (door.suite.channel, door.suite.operator):
        health = health_pb2_grpc.HealthStub(channel)

        async def serves(health=health):
            answer = await health.Check(health_pb2.HealthCheckRequest())
            return answer.status == health_pb2.HealthCheckResponse.SERVING

        await wait_until(serves)
    assert "perigee.v1.ChatService" in await listed_services(door.suite.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await listed_services(door.suite.operator)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_an_unknown_method_stays_unknown(door):
    call = door.suite.channel.unary_unary("/perigee.v1.AdminService/Flush")(b"")
    assert (await failure(call)).code() == grpc.StatusCode.UNIMPLEMENTED


async def test_the_log_has_the_label_of_a_calls_key_and_never_the_key(door):
    sent = [door.chat, door.admin, door.expired]
    with structlog.testing.capture_logs() as lines:
        await door.chats.Complete(CHAT, metadata=bearer(door.chat))
        for key in sent[1:]:
            await failure(door.chats.Complete(CHAT, metadata=bearer(key)))
    ends = [line for line in lines if line["event"] == "request"]
    assert [(line["status"], line["route"], line["key"]) for line in ends] == [
        ("OK", "ChatService/Complete", "team"),
        ("PERMISSION_DENIED", "ChatService/Complete", "ops"),
        ("UNAUTHENTICATED", "ChatService/Complete", "old"),
    ]
    assert not any(key in str(lines) for key in sent)
