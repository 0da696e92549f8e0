"""Server reflection in both versions that clients ask for: grpc.reflection.v1 and v1alpha."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import _async, reflection_pb2, reflection_pb2_grpc

_V1ALPHA, _V1 = "grpc.reflection.v1alpha", "grpc.reflection.v1"
_V1_FILE = "grpc/reflection/v1/reflection.proto"
_SERVICE = "ServerReflection"


def add_reflection(server: grpc.aio.Server, services: Iterable[str]) -> None:
    """Has reflection list these services, full names, and itself. Call before the server starts."""
    pool = descriptor_pool.Default()
    _describe_v1(pool)
    names = [*services, f"{_V1}.{_SERVICE}", f"{_V1ALPHA}.{_SERVICE}"]
    servicer = _async.ReflectionServicer(names, pool=_PoolWithMethods(pool))
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    # Messages of both versions have the same fields, so v1alpha's read and write those of v1.
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(f"{_V1}.{_SERVICE}", {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))


class _PoolWithMethods:
    """A descriptor pool that finds the files of methods too, which clients ask for by `Service.Method`."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """The pool's. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            method = self._pool.FindMethodByName(symbol)
            return self._pool.FindFileContainingSymbol(method.containing_service.full_name)


def _describe_v1(pool: descriptor_pool.DescriptorPool) -> None:
    """Adds the description of v1 to the pool, for clients that ask for that of every listed service."""
    try:
        pool.FindFileByName(_V1_FILE)
    except KeyError:
        pool.Add(_v1_description())


def _v1_description() -> descriptor_pb2.FileDescriptorProto:
    """The description of v1alpha under the names of v1."""
    described = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(described)
    described.name, described.package = _V1_FILE, _V1
    described.ClearField("options")
    for field in (field for message in described.message_type for field in message.field):
        if field.HasField("type_name"):
            field.type_name = field.type_name.replace(_V1ALPHA, _V1)
    for method in (method for service in described.service for method in service.method):
        method.input_type = method.input_type.replace(_V1ALPHA, _V1)
        method.output_type = method.output_type.replace(_V1ALPHA, _V1)
    return described
