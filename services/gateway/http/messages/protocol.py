"""Which requests speak Anthropic's protocol, Messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.types import Scope

PATH = "/v1/messages"
_VERSION = b"anthropic-version"
_BETA = b"anthropic-beta"
# Without their dates: what they ask for is done here anyhow.
_MET_BETAS = (
    "claude-code-",
    "fine-grained-tool-streaming-",
    "interleaved-thinking-",
    "prompt-caching-",
    "structured-outputs-",
    "token-counting-",
)


def speaks_messages(scope: Scope) -> bool:
    """Whether answers have Anthropic's form: under /v1/messages, and of the list of models where the request
    says so.
    """
    path: str = scope["path"]
    if not path.startswith("/v1/m"):
        return False
    if path.startswith("/v1/models"):
        return names_version(scope["headers"])
    return path == PATH or path.startswith(f"{PATH}/")


def names_version(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether there is the header that every client of Anthropic's sends."""
    return any(name == _VERSION for name, _ in headers)


def unknown_betas(headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
    """The values of `anthropic-beta` that change nothing here."""
    given = [value.decode("latin-1") for name, value in headers if name == _BETA]
    values = [each.strip() for line in given for each in line.split(",")]
    return [each for each in values if each and not each.startswith(_MET_BETAS)]
