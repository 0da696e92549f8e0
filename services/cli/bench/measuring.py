"""Measures scenarios and writes the records."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import uvloop

from services.cli.bench.load import LoadRunner
from services.cli.bench.options import BenchOptions, CompareOptions
from services.cli.bench.pools import Arrangement, aggregated, disaggregated, started
from services.cli.bench.progress import progress_on
from services.cli.bench.records import FORMAT, Began, Record, RecordWriter, read_runs
from services.cli.bench.targets.grpc import GrpcTarget
from services.cli.bench.targets.http import HttpTarget
from services.cli.bench.targets.target import Address, Target, parse_address
from services.cli.bench.workload.agent import agent_sessions
from services.cli.bench.workload.ask import Ask, Session
from services.cli.bench.workload.prompts import TextMaker, random_sessions, user_turn
from services.cli.bench.workload.scenario import Scenario
from services.common.errors import ConfigError

# Words of the two chats whose prompts show how many tokens a word is.
_FEW, _MANY = 32, 160


@dataclass(frozen=True)
class Measured:
    """Where records were written, and the names of the runs among them."""

    path: Path
    runs: frozenset[str]


def measure(options: BenchOptions) -> Measured:
    """Runs all scenarios. Says at the end, also at one by a failure or Ctrl-C, where the records are.

    Raises ConfigError if the file cannot be written or has runs of another scale, Unavailable if the endpoint
    does not answer.
    """
    path = options.out or Path(datetime.now(UTC).strftime("bench-%Y%m%d-%H%M%S.jsonl"))
    is_new = not path.exists()
    if not is_new and path.stat().st_size:
        _check_scale(path, options.scale)
    progress = progress_on()
    runs: set[str] = set()
    try:
        with path.open("a", encoding="utf-8") as out:
            writer = RecordWriter(out)

            def record(each: Record) -> None:
                writer.write(each)
                progress.show(each)
                runs.add(each.run)

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_measure(options, record))
    except OSError as error:
        raise ConfigError(f"--out {path}: {error.strerror}") from error
    finally:
        progress.close()
        if runs:
            print(f"{path} has the records; perigee bench report compares them with others", file=sys.stderr)
        elif is_new:
            with contextlib.suppress(OSError):
                path.unlink()
    return Measured(path, frozenset(runs))


def _check_scale(path: Path, scale: float) -> None:
    for run in read_runs([path]):
        if run.began.scale != scale:
            raise ConfigError(
                f"--out {path}: has runs of scale {run.began.scale:g}, which cannot be compared with --scale"
                f" {scale:g}; name another file"
            )


async def _measure(options: BenchOptions, record: Callable[[Record], None]) -> None:
    if options.compare is None:
        await _measure_at(options, options.address, options.label, record)
        return
    with tempfile.TemporaryDirectory(prefix="perigee-bench-") as logs:
        for number, arrangement in enumerate(arrangements(options.compare)):
            directory = Path(logs) / str(number)
            directory.mkdir()
            async with started(arrangement, options.compare.checkpoint, directory) as (rest, _):
                await _measure_at(options, parse_address(rest), arrangement.label, record)


def arrangements(compare: CompareOptions) -> list[Arrangement]:
    """Returns the suites of a comparison: separate pools first, then one pool for each chunk size."""
    apart = disaggregated(compare.cores, compare.prefill, compare.decode, compare.kv_pages)
    workers = compare.prefill + compare.decode
    together = [aggregated(compare.cores, workers, compare.kv_pages, chunk) for chunk in compare.chunks]
    return [apart, *together]


async def _measure_at(
    options: BenchOptions, address: Address, label: str, record: Callable[[Record], None]
) -> None:
    target: Target = GrpcTarget(address, options.ask) if address.grpc else HttpTarget(address, options.ask)
    try:
        model = await target.model()
        runner = LoadRunner(target, record, options.ask.clock)
        texts: TextMaker | None = None
        for scenario in options.scenarios:
            scaled = scenario.scaled(options.scale)
            chat = options.chat or scaled.rounds > 0
            if chat and texts is None:
                texts = await text_maker(target)
            own = texts if chat else None
            began = _began(scaled, options, label, _api(address, chat=chat), model)
            (warm,) = sessions_of(replace(scaled, requests=1), options.seed, f"{began.run} warm", own)
            await runner.warm_up(warm)
            await runner.run(began, sessions_of(scaled, options.seed, began.run, own))
    finally:
        await target.close()


def sessions_of(scenario: Scenario, seed: int, salt: str, texts: TextMaker | None) -> Sequence[Session]:
    """Returns the sessions of a scaled scenario; of chats, and of agents, if there are `texts`.

    `seed`: of all lengths; `salt`: of what is said.
    """
    if scenario.rounds and texts is not None:
        return agent_sessions(scenario, seed, salt, texts)
    return random_sessions(scenario, seed, salt, texts)


async def text_maker(target: Target) -> TextMaker:
    """Measures how many tokens words are, by the prompt lengths that an endpoint counts; without any, takes
    the usual.
    """
    counted = []
    for words in (_FEW, _MANY):
        text = TextMaker(1.0).text(words, f"words {words}")
        timeline = await target.ask(Ask(1, words, messages=(user_turn(text),)))
        counted.append(timeline.prompt_tokens or 0)
    per_word = (counted[1] - counted[0]) / (_MANY - _FEW)
    return TextMaker(per_word, max(0.0, counted[0] - _FEW * per_word)) if per_word > 0 else TextMaker()


def _began(scenario: Scenario, options: BenchOptions, label: str, api: str, model: str) -> Began:
    return Began(
        run=f"{scenario.name}-{secrets.token_hex(6)}",
        scale=options.scale,
        format=FORMAT,
        label=label,
        scenario=scenario.name,
        input_tokens=scenario.input_tokens,
        output_tokens=scenario.output_tokens,
        requests=scenario.requests,
        concurrency=scenario.concurrency,
        rate=scenario.rate,
        least_ratio=scenario.least_ratio,
        images=scenario.images,
        rounds=scenario.rounds,
        seed=options.seed,
        api=api,
        model=model,
        version=version("perigee"),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        slo_ms=options.slo_ms,
    )


def _api(address: Address, *, chat: bool) -> str:
    return f"{'grpc' if address.grpc else 'http'} {'chat' if chat else 'completions'}"
