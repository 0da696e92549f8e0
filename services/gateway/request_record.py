"""The record of one request, logged as one line when it has ended."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from perigee.v1 import sampling_pb2
from services.common.ids import request_id

HEADER = "x-request-id"
"""The header, and over gRPC the metadata, in which a request's name comes and is answered."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
# A batch may have many prompts and meet many workers; its line is to stay a line.
_MOST_NAMED = 8


def request_name(given: str | None) -> str:
    """The client's name of its request; one of ours where it has none that could stand in a log."""
    return given if given is not None and _NAME.fullmatch(given) else request_id()


def finish_name(finish: sampling_pb2.FinishReason.ValueType) -> str:
    """Returns a finish reason as REST spells it, such as `tool_calls`."""
    return sampling_pb2.FinishReason.Name(finish).removeprefix("FINISH_REASON_").lower()


@dataclass(slots=True)
class RequestRecord:
    """Filled as the request goes on, a few times in all and never for each token. No text of the prompt, and
    no API key but the label of one.

    `name`: as `request_name` gives it; `completions`: the ids that the client and the workers know, one for
    each of the first prompts; `status`: the answer's, as its door spells it; `reason`: of the failure, as
    errors spell theirs; `key`: the label of the caller's API key.
    """

    name: str = ""
    door: str = ""
    route: str = ""
    status: int | str = ""
    reason: str = ""
    key: str = ""
    model: str = ""
    prompts: int = 0
    completions: list[str] = field(default_factory=list)
    failovers: int = 0
    _usage: sampling_pb2.Usage = field(default_factory=sampling_pb2.Usage)
    _finishes: dict[str, int] = field(default_factory=dict)
    _workers: dict[str, list[str]] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    def opened(self, completion: str, model: str) -> None:
        """A prompt of the request is about to be rendered."""
        self.prompts += 1
        self.model = model
        if len(self.completions) < _MOST_NAMED:
            self.completions.append(completion)

    def reached(self, moment: str) -> None:
        """Notes how long after its arrival the request came to this moment for the first time."""
        self._seconds.setdefault(moment, time.monotonic() - self._started)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of the block to the stage's."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began

    def served_by(self, role: str, address: str) -> None:
        """A worker had a part in the answer, or was to have one. Nothing for an empty address."""
        known = self._workers.setdefault(role, [])
        if address and address not in known and len(known) < _MOST_NAMED:
            known.append(address)

    def spent(
        self, usage: sampling_pb2.Usage, finishes: Sequence[sampling_pb2.FinishReason.ValueType]
    ) -> None:
        """Adds what one prompt took, and how those of its choices ended that did."""
        self._usage.prompt_tokens += usage.prompt_tokens
        self._usage.cached_tokens += usage.cached_tokens
        self._usage.completion_tokens += usage.completion_tokens
        for finish in finishes:
            name = finish_name(finish)
            self._finishes[name] = self._finishes.get(name, 0) + 1

    def line(self) -> dict[str, Any]:
        """The fields of the line, without those that say nothing; times in seconds."""
        self.reached("total")
        fields: dict[str, Any] = {
            "request_id": self.name,
            "completion_id": ",".join(self.completions),
            "door": self.door,
            "route": self.route,
            "status": self.status,
            "reason": self.reason,
            "key": self.key,
            "model": self.model,
            "prompts": self.prompts if self.prompts > 1 else 0,
            "failovers": self.failovers,
            "finish": ",".join(f"{name}:{count}" for name, count in self._finishes.items()),
            **{role: ",".join(addresses) for role, addresses in self._workers.items()},
            **{f"{name}_s": round(seconds, 6) for name, seconds in self._seconds.items()},
        }
        shown = {name: value for name, value in fields.items() if value}
        if self.prompts:
            shown["prompt_tokens"] = self._usage.prompt_tokens
            shown["cached_tokens"] = self._usage.cached_tokens
            shown["completion_tokens"] = self._usage.completion_tokens
        return shown
