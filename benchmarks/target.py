"""The gateway that attacks are sent to, and the simplest requests to it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx

PATIENCE_S = 120.0


@dataclass(frozen=True)
class Target:
    """The doors of a gateway on this machine."""

    http_port: int
    grpc_port: int

    @property
    def url(self) -> str:
        """The URL of the REST door."""
        return f"http://127.0.0.1:{self.http_port}"


def post(target: Target, path: str, body: bytes) -> Counter[str]:
    """Sends one request; returns its status and the error's message."""
    try:
        answer = httpx.post(f"{target.url}{path}", content=body, timeout=PATIENCE_S, trust_env=False)
    except httpx.TransportError as error:
        return Counter({type(error).__name__: 1})
    message = "" if answer.status_code == 200 else answer.json()["error"]["message"]
    return Counter({f"{answer.status_code} {message[:100]}".strip(): 1})


def chat(target: Target, **fields: Any) -> Counter[str]:
    """Sends one chat, of one token unless `fields` ask for more."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, **fields}
    return post(target, "/v1/chat/completions", json.dumps(body).encode())
