"""The four roles the command can run; their modules are imported on demand."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

ROLES = ("vision", "prefill", "decode", "gateway")

Serve = Callable[[Any, asyncio.Event], Awaitable[None]]


def config_class(role: str) -> type[Any]:
    """Returns the configuration class of a role; imports only its config module."""
    module = importlib.import_module(f"services.{role}.config")
    found: type[Any] = getattr(module, f"{role.capitalize()}Config")
    return found


def serve_function(role: str) -> Serve:
    """Returns the function that runs a role until an event is set; imports everything the role needs."""
    found: Serve = importlib.import_module(f"services.{role}.main").serve
    return found
