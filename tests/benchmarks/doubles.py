"""What a child of a test does; `transfer_ways` of several fates, which the plan's device names."""

from __future__ import annotations

import os
import signal

from benchmarks.child import Blocked, Pipe, Wrong
from benchmarks.transfer_plan import Plan

FOUND = {
    "device": "cuda:0",
    "transport": "cuda_ipc",
    "megabytes": 12.0,
    "entries": 6,
    "gigabytes_per_second": {"transfer thread": 90.0, "bare NIXL": 100.0, "copy in memory": 400.0},
    "ours_to_bare": 0.9,
    "into_host": 12.5,
    "reads": 1e12,
}


def count(pipe: Pipe, numbers: int) -> str:
    for number in range(numbers):
        pipe.send(number)
    return "counted"


def block(_: Pipe) -> None:
    raise Blocked("no such memory")


def be_wrong(_: Pipe) -> None:
    raise Wrong("other bytes")


def fail(_: Pipe) -> None:
    raise ValueError("a defect")


def hang(_: Pipe) -> None:
    signal.pause()


def die(_: Pipe) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for_the_end(pipe: Pipe) -> None:
    pipe.send("waiting")
    pipe.wait()


def serve(pipe: Pipe, plan: Plan) -> None:
    pipe.send("Some GPU")
    if plan.device == "cuda, no registration":
        raise Blocked("AgentError('NIXL cannot register memory')")
    if plan.device == "cuda, the source dies":
        die(pipe)
    pipe.send("offer")
    if plan.device == "cuda, the source dies while it is read":
        die(pipe)
    pipe.wait()


def read(pipe: Pipe, plan: Plan, offer: str) -> dict[str, object]:
    assert offer == "offer"
    if plan.device == "cuda, the source dies while it is read":
        pipe.wait()
    if plan.device == "cuda, other bytes":
        raise Wrong("transfer thread: the bytes differ from the source's")
    if plan.device == "cuda, a defect":
        raise ValueError("a defect")
    if plan.device == "cuda, no way to the host":
        return {**FOUND, "into_host": "failed: the read did not succeed"}
    return {**FOUND, "reads": "not run: triton not installed"} if plan.device == "cuda, no triton" else FOUND
