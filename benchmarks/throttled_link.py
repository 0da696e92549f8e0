"""Measures how much of a KV transfer is exposed on a slow link: two network namespaces, a limited link.

python -m benchmarks.throttled_link [--prompts 5] [--out FILE] # as root, with ip and tc

A prefill and a decode worker run in a network namespace each, with a core each, over TCP. The link between
them is limited so that moving a prompt's KV takes about half as long as computing it. Serial: prefill has all
pages in its cache, and only the transfer takes time. Overlapped: a prompt that is cached nowhere; exposed is
the time from the last page's computation to its arrival. It is at least the time of the last group of layers,
because that is ready last. Exits with 1 if it is more than 1.2 times as long.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from benchmarks.fleet import Fleet
from benchmarks.result import write_result
from perigee.v1 import decode_pb2, decode_pb2_grpc, sampling_pb2, worker_pb2, worker_pb2_grpc
from services.common.rpc.endpoints import Endpoints

BOUND = 1.2
TOKENS, CHUNK = 2_048, 512
SHARE = 0.5
"""The serial transfer's time, as a share of the computing time."""
_SPACES = {"perigee-prefill": "10.77.77.1", "perigee-decode": "10.77.77.2"}
_PREFILL, _DECODE = _SPACES
_LINK = "kv0"


@dataclass(frozen=True)
class Seen:
    """The figures of one prompt: seconds to its token, from prefill's end to the last byte, bytes moved."""

    first_token_s: float
    tail_s: float
    transferred: int


class Decoder:
    """Sends one request at a time to a decode worker."""

    def __init__(self, address: str, prefill: str) -> None:
        channel = Endpoints("operator").sync_channel(address, "decode")
        self._prefill = prefill
        self._worker = worker_pb2_grpc.WorkerServiceStub(channel)
        self._up: SimpleQueue[decode_pb2.SessionRequest] = SimpleQueue()
        self._down = decode_pb2_grpc.DecodeServiceStub(channel).Session(iter(self._up.get, None))
        self._handle = 0

    def ask(self, prompt: list[int]) -> Seen:
        """Asks for one token."""
        self._handle += 1
        sampling = sampling_pb2.SamplingParams(temperature=0, top_p=1, n=1, seed=1, max_tokens=1)
        submit = decode_pb2.Submit(
            handle=self._handle,
            request_id=f"link-{self._handle}",
            prompt_token_ids=prompt,
            sampling=sampling,
            prefill_addresses=[self._prefill],
        )
        began = time.monotonic()
        self._up.put(decode_pb2.SessionRequest(submits=[submit]))
        (delta,) = next(self._down).deltas
        if delta.HasField("error"):
            raise RuntimeError(delta.error.message)
        stats = delta.stats
        return Seen(time.monotonic() - began, stats.transfer_tail_seconds, stats.transfer_bytes)

    def forget(self) -> None:
        """Empties decode's cache, but not prefill's."""
        self._worker.Flush(worker_pb2.FlushRequest())


def prompts() -> Iterator[list[int]]:
    """Prompts whose KV is whole pages without the last token, and which are cached nowhere."""
    for number in range(1 << 30):
        dice = random.Random(f"link {number}")
        yield [dice.randrange(10, 1200) for _ in range(TOKENS + 1)]


def inside(model: Path, count: int) -> dict[str, float]:
    """Measures in decode's namespace; returns everything in seconds and bytes."""
    os.environ["UCX_TLS"] = "tcp"
    first, second = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory() as logs, Fleet(model, Path(logs)) as fleet:
        flags = {"host": _SPACES[_PREFILL], "chunk_tokens": CHUNK}
        prefill = fleet.worker("prefill", [first], flags, within=_entering(_PREFILL))
        decode = fleet.worker("decode", [second], {"host": _SPACES[_DECODE]})
        decoder, fresh = Decoder(decode, prefill), prompts()
        decoder.ask(next(fresh))
        free = [decoder.ask(next(fresh)) for _ in range(count)]
        computing = statistics.median(seen.first_token_s for seen in free)
        transferred = free[0].transferred
        _limit(transferred / (SHARE * computing))
        overlapped, serial = [], []
        for _ in range(count):
            prompt = next(fresh)
            overlapped.append(decoder.ask(prompt))
            decoder.forget()
            serial.append(decoder.ask(prompt))
    return {
        "computing_s": computing,
        "bytes": transferred,
        "serial_s": statistics.median(seen.first_token_s for seen in serial),
        "overlapped_s": statistics.median(seen.first_token_s for seen in overlapped),
        "exposed_s": statistics.median(seen.tail_s for seen in overlapped),
    }


def last_group(model: Path) -> float:
    """The share of the last group in a prompt's KV: the layers that are ready last, of the last chunk."""
    layers = json.loads((model / "config.json").read_text())["text_config"]["num_hidden_layers"]
    group = -(-layers // 4)
    return (layers % group or group) / layers * CHUNK / TOKENS


def _entering(space: str) -> list[str]:
    return ["ip", "netns", "exec", space]


def _limit(bytes_per_second: float) -> None:
    rate = f"{int(8 * bytes_per_second / 1000)}kbit"
    words = ["tc", "qdisc", "replace", "dev", _LINK, "root", "tbf", "rate", rate]
    _run(*_entering(_PREFILL), *words, "burst", "32kb", "latency", "50ms")


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


def make_spaces() -> None:
    """Makes two namespaces with a link between them."""
    remove_spaces()
    for space in _SPACES:
        _run("ip", "netns", "add", space)
        _run("ip", "-n", space, "link", "set", "lo", "up")
    peer = ["peer", "name", _LINK, "netns", _DECODE]
    _run("ip", "-n", _PREFILL, "link", "add", _LINK, "type", "veth", *peer)
    for space, address in _SPACES.items():
        _run("ip", "-n", space, "address", "add", f"{address}/24", "dev", _LINK)
        _run("ip", "-n", space, "link", "set", _LINK, "up")


def remove_spaces() -> None:
    """Removes the namespaces, if they exist."""
    for space in _SPACES:
        subprocess.run(["ip", "netns", "delete", space], stderr=subprocess.DEVNULL)


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throttled_link", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/kimi-nano"))
    parser.add_argument("--prompts", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None, help="JSON beside the table")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.inside:
        print(json.dumps(inside(options.model, options.prompts)))
        return 0
    if os.geteuid() or not (shutil.which("ip") and shutil.which("tc")):
        print("throttled_link: not run: it takes root, ip and tc")
        return 0
    if len(os.sched_getaffinity(0)) < 2:
        print("throttled_link: not run: it takes two cores")
        return 0
    try:
        make_spaces()
        words = [sys.executable, "-m", "benchmarks.throttled_link", "--inside", "--model", str(options.model)]
        words += ["--prompts", str(options.prompts)]
        output = subprocess.run([*_entering(_DECODE), *words], check=True, stdout=subprocess.PIPE, text=True)
    finally:
        remove_spaces()
    found = json.loads(output.stdout.splitlines()[-1])
    share = found["last_group_s"] = found["serial_s"] * last_group(options.model)
    found["ratio"] = found["exposed_s"] / share
    for name in ("computing", "serial", "overlapped", "exposed", "last_group"):
        print(f"{name.replace('_', ' '):12}{1e3 * found[f'{name}_s']:8.1f} ms")
    print(f"exposed: {found['ratio']:.2f} of the last group's share (bound {BOUND})")
    write_result(options.out, found)
    return int(found["ratio"] > BOUND)


if __name__ == "__main__":
    raise SystemExit(main())
