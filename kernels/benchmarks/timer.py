"""How long a call takes: on a GPU by replaying a graph, in the interpreter by looking at the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Protocol

import torch

_REPLAYS = 20
_CALLS = 10
_REPLAY_S = 0.02


class Timer(Protocol):
    """Times calls."""

    def seconds(self, run: Callable[[int], object], copies: int) -> float:
        """One call of `run`, which takes a number below `copies`."""


class GraphTimer:
    """The median of 20 replays of a graph of 10 calls or more, fewer where these would take over 20 ms: no
    time of the host's is in it.
    """

    def seconds(self, run: Callable[[int], object], copies: int) -> float:
        """One call, on average over the copies."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())  # the inputs are made there
        with torch.cuda.stream(stream):
            for copy in range(copies):  # compiles, and fills the allocator
                run(copy)
        torch.cuda.synchronize()
        began = time.perf_counter()
        run(0)
        torch.cuda.synchronize()
        calls = _calls(time.perf_counter() - began, copies)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for call in range(calls):
                run(call % copies)
        graph.replay()
        pairs = [self._replay(graph) for _ in range(_REPLAYS)]
        torch.cuda.synchronize()
        milliseconds: float = statistics.median(start.elapsed_time(end) for start, end in pairs)
        return milliseconds / 1e3 / calls

    def _replay(self, graph: torch.cuda.CUDAGraph) -> tuple[torch.cuda.Event, torch.cuda.Event]:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        return start, end


def _calls(seconds: float, copies: int) -> int:
    """So many of a replay where one takes so long: the same number of each copy."""
    wanted = min(_CALLS, max(int(_REPLAY_S / seconds), 1))
    return -(-wanted // copies) * copies


class ClockTimer:
    """One call by the clock: enough to see that a case can be timed."""

    def seconds(self, run: Callable[[int], object], copies: int) -> float:
        """The last copy's call."""
        start = time.perf_counter()
        run(copies - 1)
        return time.perf_counter() - start
