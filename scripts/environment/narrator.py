"""Turns pip's output into a few lines with the time passed."""

from __future__ import annotations

import re
from collections.abc import Callable

BEAT_S = 5.0
"""After so long without a line, one says what is still being done."""
_LARGE_MB = 10.0
_DOWNLOADING = re.compile(r"\s*Downloading (\S+) \(([\d.]+) (bytes|kB|MB|GB)\)")
_COLLECTING = re.compile(r"Collecting ([\w.-]+)")
_INSTALLING = re.compile(r"Installing collected packages: (.*)")
_MB = {"bytes": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}


class Narrator:
    """Prints when a step begins, when a large file is downloaded, and every few seconds otherwise."""

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float], count_packages: Callable[[], int]
    ) -> None:
        """`count_packages`: returns how many packages are installed."""
        self._write = write
        self._clock = clock
        self._count_packages = count_packages
        self._packages: tuple[int, int] | None = None
        self._began = self._last = clock()
        self._now_doing = ""
        self.downloaded_mb = 0.0

    def step(self, text: str) -> None:
        """A step begins."""
        self._packages = None
        self._now_doing = text
        self._print(text)

    def pip_says(self, line: str) -> None:
        """Takes a line of pip's output."""
        if found := _DOWNLOADING.match(line):
            size = float(found[2]) * _MB[found[3]]
            self.downloaded_mb += size
            shown = f", {size:.0f} MB" if size >= 1.0 else ""
            self._now_doing = f"downloading {_project(found[1])}{shown}"
            if size >= _LARGE_MB:
                self._print(self._now_doing)
        elif found := _COLLECTING.match(line):
            self._now_doing = f"looking for {found[1]}"
        elif found := _INSTALLING.match(line):
            count = len(found[1].split(", "))
            self.step(f"installing {count} package{'s' if count > 1 else ''}")
            self._packages = self._count_packages(), count
        self.beat()

    def beat(self) -> None:
        """Prints what is still being done if nothing was printed for BEAT_S."""
        if self._clock() - self._last < BEAT_S:
            return
        if self._packages is None:
            self._print(f"still {self._now_doing}")
        else:
            before, count = self._packages
            self._print(f"{max(0, self._count_packages() - before)} of {count} packages are installed")

    def _print(self, text: str) -> None:
        self._last = self._clock()
        minutes, seconds = divmod(int(self._last - self._began), 60)
        self._write(f"  {minutes}:{seconds:02}  {text}")


def _project(file: str) -> str:
    """The name and version in a wheel's file name, or the name of another file."""
    name, _, rest = file.rpartition("/")[2].partition("-")
    return f"{name} {rest.partition('-')[0]}".replace("%2B", "+").replace(".tar.gz", "")
