"""Prometheus and its own checks of rules, where they are installed."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import scaled, wait_until


def promtool(*words: str) -> str:
    """Runs promtool and returns what it says; fails with that if it finds something. Skips without it."""
    done = subprocess.run(
        [_installed("promtool"), *words], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """The data of an answer. Raises urllib's errors, an HTTPError for an expression that is wrong."""
        url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]


@contextlib.contextmanager
def running_prometheus(configuration: Path, port: int) -> Iterator[Prometheus]:
    """Starts one that keeps its data beside its configuration, and ends it. Skips where there is none."""
    words = [
        _installed("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={configuration.parent / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (configuration.parent / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(words, stderr=log)
    prometheus = Prometheus(port)

    def answers() -> bool:
        with contextlib.suppress(urllib.error.URLError):
            return bool(prometheus.get("status/buildinfo"))
        return False

    try:
        wait_until(answers, scaled(20.0))
        yield prometheus
    finally:
        process.terminate()
        process.wait()


def _installed(name: str) -> str:
    command = shutil.which(name)
    if command is None:
        pytest.skip(f"{name} is not installed: it is in Debian's package prometheus")
    return command
