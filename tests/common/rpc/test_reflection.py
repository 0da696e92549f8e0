"""Reflection, as clients of either version ask for it."""

import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2

VERSIONS = ("v1", "v1alpha")
REFLECTIONS = {f"grpc.reflection.{version}.ServerReflection" for version in VERSIONS}


async def ask(channel, version, **question):
    """One answer; the messages of both versions have the same fields."""
    call = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return await call(iter([reflection_pb2.ServerReflectionRequest(**question)])).read()


async def listed(channel, version):
    answer = await ask(channel, version, list_services="")
    return {service.name for service in answer.list_services_response.service}


async def described(channel, version, symbol):
    """The files that the server sends for a symbol."""
    answer = await ask(channel, version, file_containing_symbol=symbol)
    files = answer.file_descriptor_response.file_descriptor_proto
    return [descriptor_pb2.FileDescriptorProto.FromString(file) for file in files]


@pytest.mark.parametrize("version", VERSIONS)
async def test_reflection_lists_the_services_and_both_of_its_versions(serving, version):
    async with serving() as channel:
        names = await listed(channel, version)
    assert {"perigee.v1.ChatService", "grpc.health.v1.Health"} | REFLECTIONS == names


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_listed_service_is_described(serving, version):
    async with serving() as channel:
        for name in await listed(channel, version):
            files = await described(channel, version, name)
            defined = {f"{file.package}.{service.name}" for file in files for service in file.service}
            assert name in defined


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "symbol",
    ["ChatService.Stream", "ChatService.Complete", "ChatRequest", "ChatRequest.messages", "ContentPart.part"],
)
async def test_methods_messages_and_fields_are_described(serving, version, symbol):
    async with serving() as channel:
        [file, *_] = await described(channel, version, f"perigee.v1.{symbol}")
    defined = {each.name for each in (*file.service, *file.message_type)}
    assert symbol.partition(".")[0] in defined


async def test_the_description_of_v1_names_only_messages_of_v1(serving):
    async with serving() as channel:
        [file] = await described(channel, "v1", "grpc.reflection.v1.ServerReflection")
    [method] = file.service[0].method
    assert method.input_type == ".grpc.reflection.v1.ServerReflectionRequest"
    assert "v1alpha" not in str(file)


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_unknown_symbol_is_an_answer_and_no_end_of_the_call(serving, version):
    async with serving() as channel:
        for symbol in ("perigee.v1.NoService", "perigee.v1.ChatService.NoMethod", "perigee.v1", ""):
            answer = await ask(channel, version, file_containing_symbol=symbol)
            assert answer.error_response.error_code == 5


async def test_a_server_made_later_has_both_versions_too(serving):
    async with serving(), serving() as channel:
        assert await listed(channel, "v1") >= REFLECTIONS
