"""The suite in containers, built and started once for all tests of this folder."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.compose import Compose

ONE = {"vision": 1, "prefill": 1, "decode": 1}
TWO = {"vision": 2, "prefill": 2, "decode": 2}


@pytest.fixture(scope="session")
def compose(repository: Path) -> Iterator[Compose]:
    """Built images and one worker of each role, healthy."""
    suite = Compose(repository, os.environ["PERIGEE_COMPOSE"])
    started = time.monotonic()
    suite.run("build")
    built = time.monotonic()
    try:
        suite.up(ONE)
        suite.wait_until_whole()
        print(f"built in {built - started:.0f} s, healthy {time.monotonic() - built:.0f} s later")
        yield suite
        if os.environ.get("PERIGEE_COMPOSE_LOGS"):
            Path(os.environ["PERIGEE_COMPOSE_LOGS"]).write_text(suite.run("logs", "--no-color"))
    finally:
        suite.down()
