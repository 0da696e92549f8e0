"""Small programs that stand in for services."""

from __future__ import annotations

import asyncio
import io
import os
import sys

import pytest

from services.cli.run.child import Child
from services.cli.run.progress import Progress

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('up', flush=True)
time.sleep(60)
"""
OBEDIENT = "import time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
def make_child(tmp_path):
    """A child that runs a program text; whatever is left of it dies with the test."""
    made = []

    def make(program, name="child"):
        made.append(Child([sys.executable, "-c", program], os.environ, tmp_path / f"{name}.log"))
        return made[-1]

    yield make
    for child in made:
        child.kill()


@pytest.fixture
def screen():
    return io.StringIO()


@pytest.fixture
def progress(screen):
    return Progress(screen, ["vision", "decode"])


async def until(condition, timeout_s=10.0):
    """Polls; the programs say 'up' in their logs."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.fixture(name="until")
def until_fixture():
    return until


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(name="is_running")
def is_running_fixture():
    return is_running


@pytest.fixture
def obedient():
    return OBEDIENT


@pytest.fixture
def stubborn():
    return STUBBORN
