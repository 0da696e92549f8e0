"""The four roles the command can run; their modules are imported on demand."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.common.rpc.endpoints import Endpoints
    from services.common.rpc.role import Role

ROLES: tuple[Role, ...] = ("vision", "prefill", "decode", "gateway")

Serve = Callable[[Any, "Endpoints", asyncio.Event], Awaitable[None]]


def config_class(role: Role) -> type[Any]:
    """Returns the configuration class of a role; imports only its config module."""
    module = importlib.import_module(f"services.{role}.config")
    found: type[Any] = getattr(module, f"{role.capitalize()}Config")
    return found


def serve_function(role: Role) -> Serve:
    """Returns the function that runs a role until an event is set; imports everything the role needs."""
    found: Serve = importlib.import_module(f"services.{role}.main").serve
    return found
