"""What applies to every call of a client unless the call says otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# What a gateway takes as a call's name.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True)
class CallSettings:
    """`timeout_s`: seconds until the deadline, None for no deadline; `metadata`: sent with every call."""

    timeout_s: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def arguments(self, timeout_s: float | None, request_id: str) -> dict[str, Any]:
        """Returns the arguments of one gRPC call. None and "" select the client's settings.

        Raises ValueError for a request id that no gateway takes.
        """
        if request_id and not _NAME.fullmatch(request_id):
            raise ValueError(f"request_id is {request_id!r}; it has 1 to 128 of letters, digits and ._-")
        named = {"x-request-id": request_id} if request_id else {}
        return {
            "timeout": self.timeout_s if timeout_s is None else timeout_s,
            "metadata": tuple({**self.metadata, **named}.items()),
        }
