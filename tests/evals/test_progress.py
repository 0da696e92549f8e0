from __future__ import annotations

import io

from evals.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_the_bar_grows_in_place():
    stream = Terminal()
    bar = ProgressBar(2, stream)
    bar.add(True)
    bar.add(False)
    assert stream.getvalue().count("\r") == 2
    assert "[###############...............] 1/2, 1 right" in stream.getvalue()
    assert stream.getvalue().endswith("\n")


def test_elsewhere_only_the_last_line_of_a_short_run_is_written():
    stream = io.StringIO()
    bar = ProgressBar(3, stream)
    for _ in range(3):
        bar.add(True)
    assert stream.getvalue().count("\n") == 1
    assert "3/3, 3 right" in stream.getvalue()
