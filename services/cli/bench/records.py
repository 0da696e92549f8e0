"""The records of a benchmark, one JSON object per line: all that tables and pictures are made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TextIO

import msgspec

from services.cli.bench.targets.timeline import Timeline
from services.common.errors import ConfigError

FORMAT = 1
LOAD = (
    "scenario", "input_tokens", "output_tokens", "requests", "concurrency", "rate", "least_ratio", "images",
    "rounds", "seed",
)  # fmt: skip
"""Fields of Began that describe what is asked of an endpoint."""
AGGREGATED = "aggregated/"
"""Begins the label of a suite of one pool; its chunk size follows."""


class Began(msgspec.Struct, tag_field="kind", tag="run", frozen=True):
    """The first record of a run: one scenario against one endpoint.

    `run`: names it in the other records. `scale`: of all lengths, against the scenario's. Lengths are scaled.
    `label`: what the endpoint is called in comparisons. `slo_ms`: greatest ttft, tpot, e2e of a good request.
    """

    run: str
    scale: float
    format: int
    label: str
    scenario: str
    input_tokens: int
    output_tokens: int
    requests: int
    concurrency: int
    rate: float
    least_ratio: float
    images: int
    rounds: int
    seed: int
    api: str
    model: str
    version: str
    started: str
    slo_ms: dict[str, float] = msgspec.field(default_factory=dict)

    @property
    def load(self) -> tuple[object, ...]:
        """What two runs must share to be compared, beside the scale: the fields in LOAD."""
        return tuple(getattr(self, name) for name in LOAD)


class Request(msgspec.Struct, tag_field="kind", tag="request", frozen=True):
    """The record of one request. `start_s`: seconds since the run began; the other times are durations.

    `ttft_s`: from sending to the first text, None without any. `gaps_s`: between pieces of text. `latency_s`:
    from sending to the last byte. `output_tokens`: 0 for a failed request; where the endpoint counts none,
    the number that was asked for. `cached_tokens`: None where the endpoint counts none. `error`: empty if
    the answer is whole.
    """

    run: str
    scale: float
    session: int
    turn: int
    start_s: float
    ttft_s: float | None
    latency_s: float
    gaps_s: list[float]
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int | None = None
    finish: str = ""
    error: str = ""


class Ended(msgspec.Struct, tag_field="kind", tag="end", frozen=True):
    """The last record of a run, unless it was interrupted. `seconds`: from first request to last answer."""

    run: str
    scale: float
    seconds: float


Record = Began | Request | Ended
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Record)


@dataclass
class Run:
    """All records of one run. `seconds`: None if it was interrupted."""

    began: Began
    requests: list[Request] = field(default_factory=list)
    seconds: float | None = None


def request_record(
    began: Began, timeline: Timeline, epoch: float, session: int, turn: int, planned: tuple[int, int]
) -> Request:
    """Returns the record of a request. `epoch`: the moment at which the run began; `planned`: the lengths of
    prompt and answer that were asked for.
    """
    failed, texts = bool(timeline.error), timeline.texts
    counted = planned[1] if timeline.output_tokens is None else timeline.output_tokens
    return Request(
        run=began.run,
        scale=began.scale,
        session=session,
        turn=turn,
        start_s=timeline.start - epoch,
        ttft_s=texts[0] - timeline.start if texts else None,
        latency_s=timeline.end - timeline.start,
        gaps_s=[after - before for before, after in pairwise(texts)],
        prompt_tokens=planned[0] if timeline.prompt_tokens is None else timeline.prompt_tokens,
        output_tokens=0 if failed else counted,
        cached_tokens=timeline.cached_tokens,
        finish=timeline.answer.finish,
        error=timeline.error,
    )


class RecordWriter:
    """Appends records to a text stream, each line complete as soon as it is written."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, record: Record) -> None:
        """Writes one line."""
        self._out.write(_ENCODER.encode(record).decode() + "\n")
        self._out.flush()


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Returns the runs of several files, in their order. Raises ConfigError naming the file and the line."""
    return [run for path in paths for run in _runs_of(path)]


def _runs_of(path: Path) -> Iterable[Run]:
    runs: dict[str, Run] = {}
    for where, record in _records(path):
        if isinstance(record, Began):
            if record.format != FORMAT:
                raise ConfigError(f"{where}: format {record.format}; this version reads format {FORMAT}")
            if record.run in runs:
                raise ConfigError(f"{where}: a second run is called {record.run}")
            runs[record.run] = Run(record)
            continue
        run = runs.get(record.run)
        if run is None:
            raise ConfigError(f"{where}: no run before this line is called {record.run}")
        if record.scale != run.began.scale:
            raise ConfigError(f"{where}: scale {record.scale:g} in a run of scale {run.began.scale:g}")
        if isinstance(record, Request):
            run.requests.append(record)
        else:
            run.seconds = record.seconds
    if not runs:
        raise ConfigError(f"{path}: holds no run")
    return runs.values()


def _records(path: Path) -> Iterator[tuple[str, Record]]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{path}, line {number}"
                try:
                    yield where, _DECODER.decode(line)
                except msgspec.DecodeError as error:
                    raise ConfigError(f"{where}: is no record of perigee bench: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
