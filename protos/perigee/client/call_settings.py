"""What applies to every call of a client unless the call says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CallSettings:
    """`timeout_s`: seconds until the deadline, None for no deadline; `metadata`: sent with every call."""

    timeout_s: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, timeout_s: float | None, request_id: str) -> dict[str, Any]:
        """Returns the arguments of one gRPC call. None and "" select the client's settings."""
        named = {"x-request-id": request_id} if request_id else {}
        return {
            "timeout": self.timeout_s if timeout_s is None else timeout_s,
            "metadata": tuple({**self.metadata, **named}.items()),
        }
