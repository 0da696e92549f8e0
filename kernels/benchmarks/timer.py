"""Times a call: on a GPU by replaying a graph, in the interpreter by the clock."""

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
    """Measures the time of calls."""

    def seconds(self, run: Callable[[int], object], copies: int) -> float:
        """Seconds of one call of `run`, which takes a number below `copies`."""


class GraphTimer:
    """The median of 20 replays of a graph of at least 10 calls, or fewer if these would take over 20 ms. It
    includes no time of the host.
    """

    def seconds(self, run: Callable[[int], object], copies: int) -> float:
        """Seconds of one call, on average over the copies."""
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
    """Calls per replay if one call takes so long: the same number for each copy."""
    wanted = min(_CALLS, max(int(_REPLAY_S / seconds), 1))
    return -(-wanted // copies) * copies


class ClockTimer:
    """Times one call by the clock: enough to show that a case can be timed."""

    def seconds(self, run: Callable[[int], object], copies: int) -> float:
        """Seconds of a call with the last copy."""
        start = time.perf_counter()
        run(copies - 1)
        return time.perf_counter() - start
