"""The record of one request, logged as one line when it has ended."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from perigee.v1 import sampling_pb2
from services.common.ids import request_id
from services.common.telemetry.timeline import Timeline
from services.common.telemetry.tracer import Trace

HEADER = "x-request-id"
"""The header, and over gRPC the metadata, in which a request's name comes and is answered."""

STAGES = (
    "accept", "queue", "render", "grammar", "submit", "encode", "worker_queue", "media", "prefill",
    "transfer", "first_step", "transit", "wait", "decode", "finish",
)  # fmt: skip
"""The stages of a request, as its log line, metrics and trace name them.

accept: from its arrival until its body is read and it is admitted and checked. queue: until its turn. render:
the token ids of its prompt are made; grammar: the part of that in which a grammar is. submit: a worker is
chosen and asked; encode: the part of that in which vision workers encode. Then, as the decode worker counts,
worker_queue: until it has room; media: it reads embeddings; prefill: the prompt is computed; transfer: the
rest of its KV is read; first_step: the first token is sampled; transit: what is left of the time until it
comes, which is the way there and back. wait: all this, where none came. decode: until the last token. finish:
until the answer is sent.
"""

_FIELDS = {stage: f"{stage}_s" for stage in STAGES}

WITHIN = {"grammar": "render", "encode": "submit"}
"""Stages that lie within another one. The others follow each other."""

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
    errors spell theirs; `key`: the label of the caller's API key; `timeline`: its stages, by the monotonic
    clock, as is `arrived`; `trace`: its span, if it has one.
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
    timeline: Timeline = field(default_factory=Timeline)
    arrived: float = field(default_factory=time.monotonic)
    trace: Trace | None = None
    _usage: sampling_pb2.Usage = field(default_factory=sampling_pb2.Usage)
    _finishes: dict[str, int] = field(default_factory=dict)
    _workers: dict[str, list[str]] = field(default_factory=dict)
    _first_token_at: float = 0.0
    _last_token_at: float = 0.0
    _ended_at: float = 0.0

    def opened(self, completion: str, model: str) -> None:
        """A prompt of the request is about to be rendered."""
        self.prompts += 1
        self.model = model
        if len(self.completions) < _MOST_NAMED:
            self.completions.append(completion)

    def accepted(self) -> None:
        """Its body is read, it is admitted and checked; now it waits for its turn. Counts once."""
        if "accept" not in self.timeline.totals:
            self.timeline.add("accept", self.arrived, time.monotonic())

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Adds the block as a stage."""
        return self.timeline.stage(name)

    def decoded(self, first: float, last: float) -> None:
        """The first and the last token of a prompt's choices came at these times."""
        self.timeline.add("decode", first, last)
        self._first_token_at = min(self._first_token_at or first, first)
        self._last_token_at = max(self._last_token_at, last)

    def ended(self) -> None:
        """The answer is sent, or will never be. Counts once."""
        if not self._ended_at:
            self._ended_at = time.monotonic()
            if self._last_token_at:
                self.timeline.add("finish", self._last_token_at, self._ended_at)

    @property
    def ended_at(self) -> float:
        """When it ended."""
        return self._ended_at

    @property
    def total_s(self) -> float:
        """Seconds from its arrival to its end."""
        return self._ended_at - self.arrived

    @property
    def traceparent(self) -> str:
        """The context of its trace for workers; empty without one."""
        return "" if self.trace is None else self.trace.traceparent

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
        self.ended()
        first_token_s = self._first_token_at - self.arrived if self._first_token_at else 0.0
        times = {_FIELDS[stage]: round(each, 6) for stage, each in self.timeline.totals.items()}
        fields: dict[str, Any] = {
            "request_id": self.name,
            "completion_id": ",".join(self.completions),
            "trace_id": "" if self.trace is None else self.trace.trace_id,
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
            **times,
            "first_token_s": round(first_token_s, 6),
            "total_s": round(self.total_s, 6),
        }
        shown = {name: value for name, value in fields.items() if value}
        if self.prompts:
            shown["prompt_tokens"] = self._usage.prompt_tokens
            shown["cached_tokens"] = self._usage.cached_tokens
            shown["completion_tokens"] = self._usage.completion_tokens
        return shown
