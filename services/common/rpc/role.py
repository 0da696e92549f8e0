"""The roles that a process at an end of a connection can have."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from perigee.v1 import worker_pb2
from services.common.errors import InvalidRequest

Role: TypeAlias = Literal["vision", "prefill", "decode", "gateway", "operator"]

_WORKERS: Mapping[worker_pb2.WorkerRole.ValueType, Role] = MappingProxyType(
    {
        worker_pb2.WORKER_ROLE_VISION: "vision",
        worker_pb2.WORKER_ROLE_PREFILL: "prefill",
        worker_pb2.WORKER_ROLE_DECODE: "decode",
    }
)


def worker_role(number: worker_pb2.WorkerRole.ValueType, param: str = "role") -> Role:
    """The role of a worker, from a message. Raises InvalidRequest naming `param` for one that is none."""
    role = _WORKERS.get(number)
    if role is None:
        raise InvalidRequest(f"{param} is {number}; it must be the role of a worker", param)
    return role
