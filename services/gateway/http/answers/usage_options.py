"""Which stream events carry token usage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from msgspec import UNSET, UnsetType

from perigee.v1 import sampling_pb2
from services.gateway.http.answers.openai import usage
from services.gateway.http.bodies.fields.nested import read_stream_options
from services.gateway.http.shapes.usage import UsageAnswer


class Counted(Protocol):
    """Anything that counts tokens."""

    @property
    def usage(self) -> sampling_pb2.Usage: ...


@dataclass(frozen=True)
class UsageOptions:
    """`include`: usage in a last chunk without choices. `continuous`: usage so far in every chunk."""

    include: bool
    continuous: bool

    @classmethod
    def of(cls, given: dict[str, Any] | None) -> UsageOptions:
        """Reads a body's `stream_options`; without them, no usage. Raises InvalidRequest naming the field."""
        options = read_stream_options(given)
        return cls(options.include_usage, options.continuous_usage_stats)

    def in_chunk(self, generation: Counted) -> UsageAnswer | UnsetType | None:
        """The usage in a chunk with choices: null if usage comes only in the last chunk, as OpenAI does."""
        if self.continuous:
            return usage(generation.usage)
        return None if self.include else UNSET
