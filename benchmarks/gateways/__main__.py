"""Compares gateways before an engine without a model: how much later a token arrives than it was sent.

python -m benchmarks.gateways [--peers DIR] [--rounds 3] [--tokens 50] [--out FILE]

The engine gives one token to every stream each 20 ms. Perigee's gateway talks gRPC to it and does all its
work: tokens to text, reasoning and tool calls separated, events built; the others forward the engine's events
over HTTP. The engine and the clients share the last core and the gateway has the others, so that they do not
slow each other down. One gateway runs at a time, in turns over the rounds of one run; a number is the median
of the rounds. `python -m benchmarks.peers` installs the others; one that is not installed is left out. Exits
with 1 if a bound against sglang-router is not held.

`--only perigee perigee-mtls perigee-tls --rounds 9` compares ours with itself: with mTLS to the engine and
an API key, and with TLS on REST besides. `--only perigee perigee-traces --rounds 20`: with traces of every
tenth request.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import signal
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import uvloop

from benchmarks.child import Child
from benchmarks.fleet import Fleet, free_port, stop, wait_until_up
from benchmarks.gateways.client import Clients, Load
from benchmarks.gateways.commands import COMMANDS
from benchmarks.gateways.stamps import Stamps
from benchmarks.peers import ROOT, binaries
from benchmarks.result import write_result
from services.cli.dev_certificates import PUBLIC, write_dev_certificates
from services.common.rpc.tls.bundle import CA
from services.common.rpc.tls.trust_domain import TrustDomain
from services.gateway.access.key_file import KeyFile
from services.gateway.access.key_record import KeyRecord
from services.gateway.access.secret import digest, new_key

STREAMS = (16, 64, 256)
MODEL = Path("models/kimi-nano")
OURS, DIRECT, REFERENCE = "perigee", "direct", "sglang-router"
MTLS, TLS, TRACES = "perigee-mtls", "perigee-tls", "perigee-traces"
NUMBERS = ("first_ms", "p50_ms", "p99_ms", "finish_s", "cpu_us")
"""What is measured of each number of streams."""
BOUNDS = {
    (64, "p50_ms"): 2.0,
    (64, "p99_ms"): 1.2,
    (256, "p99_ms"): 2.0,
    (256, "finish_s"): 1.3,
}
"""The most that ours may take, as a multiple of the reference."""
_COUNT_S = 2.0
_COUNT_STREAMS = 32
_COLLECTOR_S = 60.0


@dataclass(frozen=True)
class Lag:
    """How late the tokens of a number of streams arrive. `first_ms`: from a request to its first token, the
    median; p50, p99: of all others, after the engine sent them. `finish_s`: until the last stream had ended.
    `cpu_us`: processor time of the gateway per token, in microseconds; it varies less than the lags.
    """

    first_ms: float
    p50_ms: float
    p99_ms: float
    finish_s: float
    cpu_us: float

    @classmethod
    def of(cls, load: Load, cpu_s: float) -> Lag:
        """Computes it from all arrivals of a load; `cpu_s`: seconds of processor time of the gateway."""
        lags = sorted(load.lags)
        p99 = lags[int(0.99 * (len(lags) - 1))]
        tokens = len(lags) + len(load.firsts)
        first_ms = 1e3 * statistics.median(load.firsts)
        return cls(first_ms, 1e3 * lags[len(lags) // 2], 1e3 * p99, load.seconds, 1e6 * cpu_s / tokens)


@dataclass(frozen=True)
class Result:
    """`lags` by the number of streams; requests of one token per second; memory at the end."""

    lags: dict[int, Lag]
    requests_per_second: float
    rss_mib: float


@dataclass(frozen=True)
class Target:
    """The server that the clients call."""

    port: int
    model: str
    pid: int
    tls: ssl.SSLContext | None = None
    key: str = "any"


async def measure(target: Target, stamps: Stamps, tokens: int, count_s: float = _COUNT_S) -> Result:
    """Measures one round, of which `count_s` seconds are for the requests of one token."""
    clients = Clients(target.port, target.model, stamps, target.tls, target.key)
    await clients.stream(_COUNT_STREAMS, 5)
    lags = {}
    for number in STREAMS:
        await clients.open(number)  # the cost of a token is not that of a handshake
        began_s = _cpu_s(target.pid)
        load = await clients.stream(number, tokens)
        lags[number] = Lag.of(load, _cpu_s(target.pid) - began_s)
    return Result(lags, await clients.count(_COUNT_STREAMS, count_s), _rss_mib(target.pid))


def median(rounds: list[Result]) -> Result:
    """The median of each number."""
    return Result(
        {
            number: Lag(
                *(statistics.median(getattr(each.lags[number], name) for each in rounds) for name in NUMBERS)
            )
            for number in STREAMS
        },
        statistics.median(each.requests_per_second for each in rounds),
        statistics.median(each.rss_mib for each in rounds),
    )


class Bench:
    """One engine for all gateways. A context manager."""

    def __init__(self, directory: Path, peers: Path) -> None:
        self._directory = directory
        self._peers = peers
        self._http, self._grpc, self._secure = free_port(), free_port(), free_port()
        self._certificates = directory / "certificates"
        write_dev_certificates(self._certificates, TrustDomain(), ["127.0.0.1"], datetime.timedelta(days=1))
        self._key, self._keys = new_key(), KeyFile(directory / "keys.json")
        self._keys.add(KeyRecord("benchmark", digest(self._key), ["chat"], max_concurrent=max(STREAMS)))
        self._stack = contextlib.ExitStack()
        self._all_cores = os.sched_getaffinity(0)
        *gateway, load = sorted(self._all_cores)
        self._load_cores, self._gateway_cores = {load}, set(gateway) or {load}
        self.stamps = Stamps(directory / "stamps")

    def __enter__(self) -> Bench:
        os.sched_setaffinity(0, self._load_cores)
        words = [
            sys.executable,
            "-m",
            "benchmarks.gateways.engine",
            "--stamps",
            str(self._directory / "stamps"),
        ]
        words += ["--http-port", str(self._http), "--grpc-port", str(self._grpc)]
        words += ["--secure-port", str(self._secure), "--tls-dir", str(self._certificates / "decode")]
        engine = self._stack.enter_context(_running(words, self._directory / "engine.log", self._http))
        self._engine = engine
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        os.sched_setaffinity(0, self._all_cores)

    @contextlib.contextmanager
    def gateway(self, name: str) -> Iterator[Target]:
        """Starts a gateway, which ends with the block."""
        with contextlib.ExitStack() as stack:
            os.sched_setaffinity(0, self._gateway_cores)
            try:
                target = self._start(name, stack)
            finally:
                os.sched_setaffinity(0, self._load_cores)
            yield target

    def _start(self, name: str, stack: contextlib.ExitStack) -> Target:
        if name == DIRECT:
            return Target(self._http, "engine", self._engine.pid)
        if name == OURS:
            fleet = stack.enter_context(Fleet(MODEL, self._directory))
            url = fleet.gateway([f"127.0.0.1:{self._grpc}"])
            return Target(int(url.rpartition(":")[2]), MODEL.name, fleet.pids[0])
        if name == TRACES:
            fleet = stack.enter_context(Fleet(MODEL, self._directory, environment=_collecting(stack)))
            url = fleet.gateway([f"127.0.0.1:{self._grpc}"])
            return Target(int(url.rpartition(":")[2]), MODEL.name, fleet.pids[0])
        if name in (MTLS, TLS):
            return self._start_secured(stack, self._certificates / PUBLIC if name == TLS else None)
        port = free_port()
        engine = f"http://127.0.0.1:{self._http}"
        words = COMMANDS[name](binaries(name, self._peers), engine, port)
        process = stack.enter_context(_running(words, self._directory / f"{name}.log", port))
        return Target(port, "engine", process.pid)

    def _start_secured(self, stack: contextlib.ExitStack, public: Path | None) -> Target:
        fleet = stack.enter_context(Fleet(MODEL, self._directory, self._certificates))
        more: dict[str, object] = {"api_keys": self._keys.path}
        if public:
            more["public_tls_dir"] = public
        url = fleet.gateway([f"127.0.0.1:{self._secure}"], more=more)
        tls = ssl.create_default_context(cafile=public / CA) if public else None
        return Target(int(url.rpartition(":")[2]), MODEL.name, fleet.pids[0], tls, self._key)


def _collecting(stack: contextlib.ExitStack) -> dict[str, str]:
    """Starts a collector, which ends with the stack; returns the variables of a gateway that exports a tenth
    of its traces to it.
    """
    collector = Child("collector", "benchmarks.collector", "collect")
    stack.callback(collector.close)
    sampled = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    found: dict[str, str] = collector.receive(time.monotonic() + _COLLECTOR_S)
    return found | sampled


@contextlib.contextmanager
def _running(words: list[str], log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until_up(words[0], lambda: _answers(port), process, log)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        stop(process, 10)


def _answers(port: int) -> bool:
    try:
        health = httpx.get(f"http://127.0.0.1:{port}/health", timeout=2, trust_env=False)
    except httpx.HTTPError:
        return False
    return health.status_code == 200


def _cpu_s(pid: int) -> float:
    """Returns the processor time of all threads of a process, in seconds."""
    times = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in times) / 1e9


def _rss_mib(pid: int) -> float:
    """Resident memory of a process without its children."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def ratios(results: dict[str, Result]) -> dict[str, float]:
    """Ours divided by the reference, for each bound."""
    ours, reference = results[OURS], results[REFERENCE]
    return {
        f"{number} streams, {name}": getattr(ours.lags[number], name) / getattr(reference.lags[number], name)
        for number, name in BOUNDS
    }


def costs(rounds: dict[str, list[Result]]) -> dict[str, float]:
    """What certificates with keys, and traces, cost: the median, over the rounds, of ours with divided by
    without.
    """
    found = {}
    for name in (MTLS, TLS, TRACES):
        pairs = list(zip(rounds.get(name, ()), rounds.get(OURS, ()), strict=False))
        for number in STREAMS if pairs else ():
            for what in NUMBERS:
                each = [getattr(a.lags[number], what) / getattr(b.lags[number], what) for a, b in pairs]
                found[f"{name}, {number} streams, {what}"] = statistics.median(each)
        if pairs:
            each = [b.requests_per_second / a.requests_per_second for a, b in pairs]
            found[f"{name}, seconds per request"] = statistics.median(each)
    return found


def table(results: dict[str, Result]) -> str:
    """The results as text."""
    heads = "".join(f"  C={number:<3} first / p50 / p99 ms  finish s    CPU us" for number in STREAMS)
    lines = [f"{'':14}{heads}  requests/s  RSS MiB"]
    for name, each in results.items():
        lags = "".join(
            f"{lag.first_ms:13.1f} /{lag.p50_ms:5.2f} /{lag.p99_ms:6.2f}"
            f"{lag.finish_s:10.2f}{lag.cpu_us:10.1f}"
            for lag in each.lags.values()
        )
        lines.append(f"{name:14}{lags}{each.requests_per_second:12.0f}{each.rss_mib:9.0f}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateways", description=__doc__)
    parser.add_argument("--peers", type=Path, default=ROOT, help="where the environments of the others are")
    parser.add_argument("--only", nargs="*", default=None, metavar="NAME", help="in this order")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=50, help="of each stream")
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the table")
    options = parser.parse_args(argv)
    installed = [name for name in COMMANDS if binaries(name, options.peers).is_dir()]
    names = options.only or [DIRECT, OURS, *installed]
    rounds: dict[str, list[Result]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as directory, Bench(Path(directory), options.peers) as bench:
        for _ in range(options.rounds):
            for name in names:
                with bench.gateway(name) as target:
                    rounds[name].append(uvloop.run(measure(target, bench.stamps, options.tokens)))
    results = {name: median(each) for name, each in rounds.items()}
    print(table(results))
    costs_found = costs(rounds)
    for what, ratio in costs_found.items():
        print(f"{what}: {ratio:.3f} of {OURS}'s")
    held = True
    found = {}
    if OURS in results and REFERENCE in results:
        found = ratios(results)
        for (what, ratio), bound in zip(found.items(), BOUNDS.values(), strict=True):
            print(f"{what}: {ratio:.2f} of {REFERENCE}'s (bound {bound})")
            held &= ratio <= bound
    document = {
        "ratios": found,
        "costs": costs_found,
        "results": {name: asdict(each) for name, each in results.items()},
    }
    write_result(options.out, document)
    return int(not held)


if __name__ == "__main__":
    raise SystemExit(main())
