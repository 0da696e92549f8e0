"""Who may call which rpc: the one table of all servers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from services.common.rpc.role import Role

Caller: TypeAlias = Role | Literal["client"]
"""A process with a certificate, by its role; or "client", anybody who reaches the door for clients."""

_GATEWAY: frozenset[Caller] = frozenset({"gateway"})
_OPERATOR: frozenset[Caller] = frozenset({"operator"})
_CLIENT: frozenset[Caller] = frozenset({"client"})
# The gateway carries out what operators ask of its own AdminService.
_OPERATING: frozenset[Caller] = _GATEWAY | _OPERATOR
# They read the memory of others.
_READERS: frozenset[Caller] = frozenset({"prefill", "decode"})
_ANYBODY: frozenset[Caller] = _READERS | _OPERATING | _CLIENT | {"vision"}
_CURIOUS: frozenset[Caller] = _OPERATOR | _CLIENT

CALLERS: Mapping[str, frozenset[Caller]] = MappingProxyType(
    {
        "/perigee.v1.DecodeService/Session": _GATEWAY,
        "/perigee.v1.VisionService/Encode": _GATEWAY,
        "/perigee.v1.VisionService/EncodeVideo": _GATEWAY,
        "/perigee.v1.VisionService/Lease": _READERS,
        "/perigee.v1.PrefillService/Prefill": frozenset({"decode"}),
        "/perigee.v1.PageService/Lease": frozenset({"prefill"}),
        "/perigee.v1.WorkerService/Handshake": _READERS,
        "/perigee.v1.WorkerService/GetInfo": _OPERATING,
        "/perigee.v1.WorkerService/WatchLoad": _OPERATING,
        "/perigee.v1.WorkerService/Flush": _OPERATING,
        "/perigee.v1.WorkerService/Drain": _OPERATING,
        "/perigee.v1.WorkerService/Undrain": _OPERATING,
        "/perigee.v1.WorkerService/CheckTransfer": _OPERATING,
        "/perigee.v1.WorkerService/SetLogLevel": _OPERATING,
        "/perigee.v1.AdminService/ListWorkers": _OPERATOR,
        "/perigee.v1.AdminService/Flush": _OPERATOR,
        "/perigee.v1.AdminService/DrainWorker": _OPERATOR,
        "/perigee.v1.AdminService/UndrainWorker": _OPERATOR,
        "/perigee.v1.AdminService/CheckTransfer": _OPERATOR,
        "/perigee.v1.AdminService/SetLogLevel": _OPERATOR,
        "/perigee.v1.ChatService/Complete": _CLIENT,
        "/perigee.v1.ChatService/Stream": _CLIENT,
        "/perigee.v1.GenerationService/Generate": _CLIENT,
        "/perigee.v1.GenerationService/StreamGenerate": _CLIENT,
        "/perigee.v1.GenerationService/Tokenize": _CLIENT,
        "/perigee.v1.GenerationService/Detokenize": _CLIENT,
        "/perigee.v1.ModelService/ListModels": _CLIENT,
        "/perigee.v1.ModelService/GetModel": _CLIENT,
        "/grpc.health.v1.Health/Check": _ANYBODY,
        "/grpc.health.v1.Health/List": _ANYBODY,
        "/grpc.health.v1.Health/Watch": _ANYBODY,
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _CURIOUS,
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _CURIOUS,
    }
)
"""An rpc that is not in it is refused to everybody.

Servers for clients know no caller but "client". All others know callers by their certificates; where these
have none (plain TCP), everybody may call everything.
"""
