"""What each route and rpc asks of a caller, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

Scope: TypeAlias = Literal["chat", "admin"]
"""What a key allows. Neither includes the other."""

Need: TypeAlias = Scope | Literal["any"] | None
"""The scope that a key must have for a route or rpc; None: it is open to everybody."""

ROUTES: Mapping[str, Need] = MappingProxyType(
    {
        "/": None,
        "/docs": None,
        "/openapi.json": None,
        "/health": None,
        "/ready": None,
        "/v1/chat/completions": "chat",
        "/v1/completions": "chat",
        "/v1/messages": "chat",
        "/v1/messages/count_tokens": "chat",
        "/generate": "chat",
        "/tokenize": "chat",
        "/v1/tokenize": "chat",
        "/detokenize": "chat",
        "/v1/detokenize": "chat",
        "/v1/models": "chat",
        "/v1/models/{name}": "chat",
        "/model_info": "chat",
        "/get_model_info": "chat",
        "/tokenizer_info": "chat",
        "/server_info": "admin",
        "/get_server_info": "admin",
        "/metrics": "admin",
    }
)
"""By the path of the REST operation."""

_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = tuple(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")
)

RPCS: Mapping[str, Need] = MappingProxyType(
    {
        "/perigee.v1.ChatService/Complete": "chat",
        "/perigee.v1.ChatService/Stream": "chat",
        "/perigee.v1.GenerationService/Generate": "chat",
        "/perigee.v1.GenerationService/StreamGenerate": "chat",
        "/perigee.v1.GenerationService/Tokenize": "chat",
        "/perigee.v1.GenerationService/Detokenize": "chat",
        "/perigee.v1.ModelService/ListModels": "chat",
        "/perigee.v1.ModelService/GetModel": "chat",
        f"{_HEALTH}Check": None,
        f"{_HEALTH}List": None,
        f"{_HEALTH}Watch": None,
        **dict.fromkeys(_REFLECTION, None),
    }
)
"""The rpcs of the gRPC port for clients. What is missing here needs `admin`."""

OPERATOR_RPCS: Mapping[str, Need] = MappingProxyType(
    {
        "/perigee.v1.AdminService/ListWorkers": "admin",
        "/perigee.v1.AdminService/Flush": "admin",
        "/perigee.v1.AdminService/DrainWorker": "admin",
        "/perigee.v1.AdminService/UndrainWorker": "admin",
        "/perigee.v1.AdminService/CheckTransfer": "admin",
        "/perigee.v1.AdminService/SetLogLevel": "admin",
        f"{_HEALTH}Check": None,
        f"{_HEALTH}List": None,
        f"{_HEALTH}Watch": None,
        **dict.fromkeys(_REFLECTION, "admin"),
    }
)
"""The rpcs of the operator port. What is missing here needs `admin`."""
