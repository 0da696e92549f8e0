"""What a measurement was asked to do, checked."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

from services.cli.bench.metrics import SLO_METRICS
from services.cli.bench.targets.target import Address, AskOptions, key_from_environment, parse_address
from services.cli.bench.workload.scenario import AGENT, SCENARIOS, Scenario
from services.cli.connection.gateway_address import SYSTEM_CA
from services.cli.parser import check_range
from services.cli.run_config import RunConfig
from services.common.errors import ConfigError

CUSTOM = "custom"
DEFAULT_TARGET = "http://127.0.0.1:30000"
_MOST = 1_000_000
_LONGEST_TOKENS = 10_000_000


@dataclass(frozen=True)
class CompareOptions:
    """What --compare starts. `cores`: those that this process may use."""

    checkpoint: Path
    prefill: int
    decode: int
    kv_pages: int
    chunks: tuple[int, ...]
    cores: tuple[int, ...]


@dataclass(frozen=True)
class BenchOptions:
    """All options of a measurement. `scenarios` are unscaled. `chat`: send chats, not token ids. `compare`:
    the suites to start, in place of the endpoint at `address`.
    """

    scenarios: tuple[Scenario, ...]
    scale: float
    seed: int
    chat: bool
    address: Address
    label: str
    ask: AskOptions
    slo_ms: dict[str, float]
    out: Path | None = None
    compare: CompareOptions | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> BenchOptions:
        """Checks the arguments of the command line. Raises ConfigError naming the flag."""
        target = arguments.target or DEFAULT_TARGET
        _check(arguments)
        return cls(
            scenarios=_scenarios(arguments),
            scale=arguments.scale,
            seed=arguments.seed,
            chat=arguments.chat or arguments.images > 0,
            address=parse_address(target),
            label=arguments.label or target,
            ask=_ask(arguments),
            slo_ms=parse_slo(arguments.slo),
            out=arguments.out,
            compare=_compare(arguments),
        )


def parse_slo(text: str) -> dict[str, float]:
    """Parses ttft=500,tpot=50: limits in milliseconds. Raises ConfigError."""
    limits = {}
    for pair in filter(None, text.split(",")):
        name, _, value = pair.partition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if name not in SLO_METRICS or not 0 < limit < math.inf:
            raise ConfigError(
                f"--slo: {pair!r} is not NAME=MS with a NAME of {', '.join(SLO_METRICS)} and MS above 0"
            )
        limits[name] = limit
    return limits


def _check(arguments: argparse.Namespace) -> None:
    counts = {
        "--concurrency": (arguments.concurrency, 0, _MOST),
        "--requests": (arguments.requests, 1, _MOST),
        "--input-tokens": (arguments.input_tokens, 1, _LONGEST_TOKENS),
        "--output-tokens": (arguments.output_tokens, 1, _LONGEST_TOKENS),
        "--images": (arguments.images, 0, 64),
        "--image-size": (arguments.image_size, 1, 8192),
        "--seed": (arguments.seed, 0, 2**32 - 1),
        "--prefill": (arguments.prefill, 1, 256),
        "--decode": (arguments.decode, 1, 256),
        "--kv-pages": (arguments.kv_pages, 1, 1 << 30),
    }
    for flag, (value, least, most) in counts.items():
        check_range(flag, value, least, most)
    numbers = {
        "--scale": (arguments.scale, 1000.0),
        "--rate": (arguments.rate, 1e6),
        "--timeout-seconds": (arguments.timeout_seconds, 86_400.0),
    }
    for flag, (number, greatest) in numbers.items():
        if number is not None and not 0 < number <= greatest:
            raise ConfigError(f"{flag}: must be above 0 and at most {greatest:g}, is {number:g}")
    check_range("--range-ratio", arguments.range_ratio, 0, 1)


def _scenarios(arguments: argparse.Namespace) -> tuple[Scenario, ...]:
    known = dict(SCENARIOS)
    known[CUSTOM] = Scenario(CUSTOM, arguments.input_tokens, arguments.output_tokens, 100)
    names = arguments.words or list(SCENARIOS)
    for name in names:
        if name not in known:
            raise ConfigError(f"no scenario is called {name!r}; there are {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ConfigError("a scenario is named twice")
    if arguments.name and len(names) > 1:
        raise ConfigError("--name: is for one scenario")
    changed: dict[str, object] = {"least_ratio": arguments.range_ratio}
    if arguments.rate is not None:
        changed |= {"rate": arguments.rate, "concurrency": 0}
    if arguments.concurrency is not None:
        changed["concurrency"] = arguments.concurrency
    if arguments.requests is not None:
        changed["requests"] = arguments.requests
    if arguments.name:
        changed["name"] = arguments.name
    images = {"images": arguments.images, "image_pixels": arguments.image_size} if arguments.images else {}
    return tuple(
        replace(known[name], **changed, **({} if name == AGENT else images))  # type: ignore[arg-type]
        for name in names
    )


def _ask(arguments: argparse.Namespace) -> AskOptions:
    try:
        extra = json.loads(arguments.extra)
    except ValueError as error:
        raise ConfigError(f"--extra: is not JSON: {error}") from error
    if not isinstance(extra, dict):
        raise ConfigError("--extra: is no JSON object")
    return AskOptions(
        model=arguments.model,
        full_length=not arguments.stop_early,
        extra=extra,
        timeout_s=arguments.timeout_seconds,
        ca=_ca(arguments.ca),
        key=key_from_environment(),
    )


def _ca(path: str | None) -> bytes | None:
    if path in (None, SYSTEM_CA):
        return None
    try:
        return Path(str(path)).read_bytes()
    except OSError as error:
        raise ConfigError(f"--ca {path}: {error.strerror}") from error


def _compare(arguments: argparse.Namespace) -> CompareOptions | None:
    if arguments.compare is None:
        if arguments.checkpoint is not None:
            raise ConfigError("--checkpoint: is for --compare, which starts suites itself")
        return None
    if arguments.target is not None:
        raise ConfigError("--compare: starts suites itself; leave --target out")
    if arguments.images:
        raise ConfigError("--compare: its suites have no vision workers; leave --images out")
    try:
        chunks = tuple(int(word) for word in arguments.chunks.split(","))
    except ValueError:
        chunks = ()
    if not chunks or any(chunk < 1 or chunk % 64 for chunk in chunks) or len(set(chunks)) < len(chunks):
        raise ConfigError(f"--chunks: {arguments.chunks!r} is no list of different multiples of 64")
    cores = tuple(sorted(os.sched_getaffinity(0)))
    return CompareOptions(
        arguments.checkpoint or Path(RunConfig().model),
        arguments.prefill,
        arguments.decode,
        arguments.kv_pages,
        chunks,
        cores,
    )
