"""An endpoint under test."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from services.cli.bench.targets.timeline import Timeline
from services.cli.bench.workload.ask import Ask
from services.cli.connection.api_key import VARIABLE
from services.common.errors import ConfigError

Clock = Callable[[], float]
_PORTS = {"http": 80, "https": 443, "grpc": 50050, "grpcs": 50050}


class Target(Protocol):
    """Asks one endpoint. Answers are streamed and never repeated."""

    async def model(self) -> str:
        """Returns the name of the model that is served. Raises Unavailable."""
        ...

    async def ask(self, ask: Ask) -> Timeline:
        """Sends a request and reads the whole answer; what fails is the timeline's `error`."""
        ...

    async def close(self) -> None:
        """Ends all connections."""
        ...


@dataclass(frozen=True)
class Address:
    """Where an endpoint is. `path`: what all its routes begin with."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.scheme in ("https", "grpcs")

    @property
    def authority(self) -> str:
        """HOST:PORT, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def grpc(self) -> bool:
        """Whether it speaks Perigee's gRPC."""
        return self.scheme.startswith("grpc")


def parse_address(url: str) -> Address:
    """Parses http[s]://HOST[:PORT][/PATH] or grpc[s]://HOST[:PORT]. Raises ConfigError."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"--target: {url!r} is no URL: {error}") from error
    path = parts.path.rstrip("/")
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or (path and "grpc" in parts.scheme):
        raise ConfigError(
            f"--target: {url!r} is neither http[s]://HOST[:PORT][/PATH] nor grpc[s]://HOST[:PORT]"
        )
    return Address(
        parts.scheme, parts.hostname, port or _PORTS[parts.scheme], path.removesuffix("/v1").rstrip("/")
    )


@dataclass(frozen=True)
class AskOptions:
    """What applies to every request. `model`: its name, empty for the only one. `full_length`: an answer goes
    on to `max_tokens`, whatever the model says; its special tokens are text then, else their time would be
    counted to the token behind them. `extra`: more fields of the body. `timeout_s`: of a whole answer.
    """

    model: str = ""
    full_length: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
    timeout_s: float = 600.0
    ca: bytes | None = None
    key: str = ""
    clock: Clock = time.perf_counter


def key_from_environment() -> str:
    """Returns the API key in PERIGEE_API_KEY or else in OPENAI_API_KEY; empty without one."""
    key = os.environ.get(VARIABLE, "") or os.environ.get("OPENAI_API_KEY", "")
    if not key.isascii() or not (key == "" or key.isprintable()) or " " in key:
        raise ConfigError(f"{VARIABLE} or OPENAI_API_KEY: is not an API key")
    return key
