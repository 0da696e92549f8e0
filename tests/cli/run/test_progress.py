from __future__ import annotations

import io

from services.cli.run.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_elsewhere_every_change_is_a_line(progress, screen):
    progress.begin()
    progress.update("vision", "loading…")
    progress.update("decode", "ready in 3.1 s")
    assert screen.getvalue().splitlines() == ["  vision   loading…", "  decode   ready in 3.1 s"]


def test_a_ticking_clock_is_not_worth_lines(progress, screen):
    progress.begin()
    progress.update_in_place("vision", "loading… 1 s")
    assert screen.getvalue() == ""


def test_a_terminal_redraws_the_block_in_place():
    screen = Terminal()
    progress = Progress(screen, ["vision", "decode"])
    progress.begin()
    progress.update_in_place("vision", "loading… 1 s")
    assert screen.getvalue().count("\x1b[2A\x1b[J") == 1
    assert screen.getvalue().endswith("  vision   loading… 1 s\n  decode   \n")


def test_after_the_end_a_terminal_gets_lines_too():
    screen = Terminal()
    progress = Progress(screen, ["vision", "decode"])
    progress.begin()
    progress.end()
    progress.update("vision", "ended")
    assert screen.getvalue().endswith("  vision   ended\n")
    assert "\x1b" not in screen.getvalue()


def test_a_remark_leaves_the_block_whole():
    screen = Terminal()
    progress = Progress(screen, ["vision"])
    progress.begin()
    progress.print("remark")
    assert screen.getvalue() == "  vision   \nremark\n  vision   \n"


def test_elsewhere_what_is_worth_a_line_gets_one_every_thirty_seconds():
    now, screen = [0.0], io.StringIO()
    progress = Progress(screen, ["vision", "decode"], clock=lambda: now[0])
    for second in range(62):
        now[0] = 100.0 + second
        progress.update_in_place("decode", f"loading… {second} s, 1 of 2 shards", worth_a_line=True)
    assert [line.split()[2] for line in screen.getvalue().splitlines()] == ["0", "30", "60"]


def test_elsewhere_the_first_minute_is_never_silent_for_eight_seconds():
    now, screen = [0.0], io.StringIO()
    progress = Progress(screen, ["vision", "decode"], clock=lambda: now[0])
    for second in range(100):
        now[0] = float(second)
        for role in ("vision", "decode"):
            progress.update_in_place(role, f"loading… {second} s")
    assert [line.split()[2] for line in screen.getvalue().splitlines()] == [str(7 * n) for n in range(1, 9)]
