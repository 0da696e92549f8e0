"""How far a benchmark is, on a terminal and elsewhere."""

from __future__ import annotations

import io

from services.cli.bench.progress import BarProgress, LineProgress, progress_on
from services.cli.bench.records import Ended
from tests.cli.bench.made import began, request
from tests.support.manual_clock import ManualClock


class Terminal(io.StringIO):
    """A text stream that is a terminal."""

    def isatty(self):
        return True


def test_lines_come_when_a_run_begins_ends_and_every_five_seconds():
    out, clock = io.StringIO(), ManualClock()
    progress = LineProgress(out, clock)
    progress.show(began(scale=0.05, requests=4))
    for seconds in (1.0, 3.0, 1.0, 1.0):
        clock.now += seconds
        progress.show(request(tokens=10, error="refused" if seconds == 3.0 else ""))
    progress.show(Ended("chat-1-a", 0.05, 6.0))
    assert out.getvalue().splitlines() == [
        "ours: chat-1 at scale 0.05 ...",
        "  3 of 4: 30 tokens, TTFT 100 ms, 1 failed",
        "  done in 6.0 s: 40 tokens, TTFT 100 ms, 1 failed",
    ]


def test_a_terminal_has_a_bar_for_each_run():
    out = Terminal()
    progress = progress_on(out)
    assert isinstance(progress, BarProgress)
    progress.show(began(requests=2))
    progress.show(request(tokens=10))
    progress.show(request(tokens=10))
    progress.close()
    assert "ours chat-1" in out.getvalue()
    assert "2/2" in out.getvalue()


def test_a_stream_that_is_no_terminal_has_lines():
    assert isinstance(progress_on(io.StringIO()), LineProgress)
